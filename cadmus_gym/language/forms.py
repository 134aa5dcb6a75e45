"""What a completion may look like: a finite automaton per form, and the masks derived from it.

`GRAMMARS` is the source: each form as a table of states, with the tokens allowed in each and where they lead. A token
costs as much slack as it lengthens the shortest completion. It is allowed only while the slack lasts, so every allowed
token leaves a way to finish. The same table reads the prompt, so the state in which a completion starts is a function
of the prompt's text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.notation import check_ids, disassemble, encode
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import BLOCK_DEPTH, MAX_CASES, SYNTAX, UNTERMINATED

ENDIANS = ("big", "little")


class State(NamedTuple):
    """A state of a form: the number of tokens in the shortest way to `end`, and where each allowed token leads.

    ``moves`` maps tokens, separated by spaces, to the name of the next state; a move to "dead" is read in a prompt but
    not allowed in a completion. ``begins`` names the state in which a completion starts if its prompt ends here, where
    that is another one.
    """

    shortest: int
    moves: dict[str, str]
    begins: str = ""


class Grammar(NamedTuple):
    """A form: what a completion looks like, for people, and its states.

    A completion starts in the first state. ``reads`` are the moves that any state makes on tokens of a prompt, unless
    its own moves say otherwise. ``little`` are the states that differ under ``endian="little"``.

    Three more states are common to all forms. `(` leads to "thinking", and `)` from there to the first state; `end`
    leads to "done"; and a prompt that ends in "dead" has no completion. Any other token leads to the first state.
    """

    shape: str
    states: dict[str, State]
    reads: dict[str, str]
    little: dict[str, State]


_DIGITS, _LEADING = "0 1 2 3 4 5 6 7 8 9", "1 2 3 4 5 6 7 8 9"
_LITERAL = {"0": "zero", _LEADING: "literal"}


def _literal_before(word: str) -> dict[str, State]:
    """The states of a form in which a literal is written, then a word, then `end`."""
    return {
        "start": State(3, {"(": "thinking", **_LITERAL}),
        "zero": State(2, {_DIGITS: "dead", "neg": "negated", word: "answered"}),
        "literal": State(2, {_DIGITS: "literal", "neg": "negated", word: "answered"}),
        "negated": State(2, {word: "answered"}),
        "answered": State(1, {"end": "done"}),
    }


def _little_before(word: str) -> dict[str, State]:
    """The states that differ under "little": the digit written last leads, so it may be 0 only if it stands alone."""
    return {
        "zero": State(2, {"0": "trailing", _LEADING: "literal", "neg": "negated", word: "answered"}),
        "literal": State(2, {"0": "trailing", _LEADING: "literal", "neg": "negated", word: "answered"}),
        "trailing": State(3, {"0": "trailing", _LEADING: "literal"}),
    }


_VALUE = _literal_before("eq")
_ARGUMENT = _literal_before("call")
_RELATION = {
    "start": State(1, {"(": "thinking", "not": "negated", "end": "done"}),
    "negated": State(1, {"end": "done"}),
}
_ANSWER = {
    **_VALUE,
    "start": State(1, {"(": "thinking", **_LITERAL, "not": "denied", "end": "done"}),
    "answered": State(1, {"end": "done"}, begins="start"),  # a prompt `5 5 eq` asks, and answers nothing yet
    "denied": State(1, {"end": "done"}),
}
_FREE = {"start": State(0, {" ".join(VOCABULARY): "start", "end": "done"})}

_VALUE_SHAPE = '`{thought} literal ["neg"] "eq" "end"`, the literal without leading zeros'
_ARGUMENT_SHAPE = _VALUE_SHAPE.replace("eq", "call")
_RELATION_SHAPE = '`{thought} ("end" | "not" "end")`'
_WORDS_SHAPE = "thoughts and tokens of a given list, with blocks well nested, then `end`"
_FREE_SHAPE = "anything; the only form in which the budget of tokens can run out"
GRAMMARS = {
    "value": Grammar(_VALUE_SHAPE, _VALUE, _LITERAL, _little_before("eq")),
    "relation": Grammar(_RELATION_SHAPE, _RELATION, {"not": "negated"}, {}),
    "answer": Grammar(f"{_VALUE_SHAPE}; or {_RELATION_SHAPE}", _ANSWER, _LITERAL, _little_before("eq")),
    "argument": Grammar(_ARGUMENT_SHAPE, _ARGUMENT, _LITERAL, _little_before("call")),
    "words": Grammar(_WORDS_SHAPE, {}, {}, {}),  # its states are made from the list
    "free": Grammar(_FREE_SHAPE, _FREE, {}, {}),
}
FORMS = tuple(GRAMMARS)


@dataclass(frozen=True)
class Rules:
    """What a completion may look like, and how many tokens it may spend.

    ``form`` is one of `FORMS`, and ``words`` are the tokens of form "words". ``max_tokens`` limits a completion,
    thoughts and `end` included. Up to ``thought_tokens`` of them, parentheses included, may be spent on thoughts.
    ``body_tokens`` are pairs (number of cases, most tokens of the body) for prompts with that many cases, under "words"
    only; neither thoughts nor `end` count.
    """

    form: str
    words: tuple[str, ...] = ()
    max_tokens: int = 64
    thought_tokens: int = 48
    body_tokens: tuple[tuple[int, int], ...] = ()


THINKING, DONE, DEAD, START = range(4)  # the states that every form has; START is the first of its own
PROMPT_END = len(VOCABULARY)  # the column of `Table.lead` for the end of a prompt
NEVER = 3  # the cost of a token that is not allowed; all others are 0, 1 or 2
MASKS_PER_STATE = 6  # slack of 0, 1, or 2 and more; for each, whether a thought may grow by one token

# The cells of one automaton, int64: its state, the tokens and thought tokens spent, and the most tokens of the body.
# Under `words` also the blocks that are open (three bits each, innermost lowest), their number, how many are `times`,
# and whether `def` was seen.
STATE, SPENT, THOUGHT, BODY, BLOCKS, DEPTH, LOOPS, FUNCTION, CELLS = range(9)
UNLIMITED = 2**32  # tokens of a body

# What the last token was, under `words`: a `,` may stand between two digits only.
NO_LITERAL, IN_LITERAL, AFTER_COMMA = range(3)

IN_IF, IN_ELSE, IN_TIMES, IN_BEGIN, IN_DEF = range(1, 6)  # the kinds of block in BLOCKS; 0 is none
_CLOSERS = {
    IN_IF: ("else", "fi"),
    IN_ELSE: ("fi",),
    IN_TIMES: ("next",),
    IN_BEGIN: ("until",),
    IN_DEF: ("ret",),
}
PER_LITERAL = 8 * (len(_CLOSERS) + 1)  # states of ``words``: the innermost block, and three flags
_PAIRS = {"if": "fi", "times": "next", "begin": "until", "def": "ret"}


class Table(NamedTuple):
    """A form compiled to arrays over its S states, as kernels read it.

    ``lead`` (S, 66) int16: the state after each token, and in the last column the state in which a completion starts
    if its prompt ends here. Under ``words`` the kernel finds both from the nesting. ``finish`` (S,) int64: the least
    number of tokens to `end`, not counting open blocks. ``masks`` (6 S, 65) int8: the allowed tokens, six rows per
    state. ``body`` (17,) int64: the most tokens of a body, by the number of cases. ``thinks``: whether `(` opens a
    thought. ``nests``: whether blocks are tracked.
    """

    lead: NDArray[np.int16]
    finish: NDArray[np.int64]
    masks: NDArray[np.int8]
    body: Ints
    thinks: bool
    nests: bool


def table(
    form: str, words: Sequence[str] = (), endian: str = "big", body_tokens: Sequence[tuple[int, int]] = ()
) -> Table:
    """Return the table of a form. Raises ValueError for an unknown form or endian, or words that cannot be nested."""
    if not isinstance(form, str) or form not in FORMS:
        raise ValueError(f"form = {form!r}: known are {', '.join(FORMS)}")
    if not isinstance(endian, str) or endian not in ENDIANS:
        raise ValueError(f"endian = {endian!r}: known are {', '.join(ENDIANS)}")
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"words = {words!r}: expected a list of token names")
    if (form == "words") != bool(words):
        raise ValueError(f"form = {form!r} with words = {list(words)}: 'words' needs a list of words, no other has one")
    if body_tokens and not words:
        raise ValueError(f"form = {form!r} with body_tokens: only a body of form 'words' has a budget of its own")
    if not words:
        return _table(form, endian)
    body = np.full(MAX_CASES + 1, UNLIMITED, np.int64)
    for cases, most in body_tokens:
        body[cases] = most
    return _words_table(tuple(words))._replace(body=body)


_ANY_BODY = np.full(MAX_CASES + 1, UNLIMITED, np.int64)


@functools.cache
def _table(form: str, endian: str) -> Table:
    grammar, thinks = GRAMMARS[form], form != "free"
    states = grammar.states | (grammar.little if endian == "little" else {})
    number = {"thinking": THINKING, "done": DONE, "dead": DEAD, **{name: START + k for k, name in enumerate(states)}}
    lead, cost, finish = _common(START + len(states), states["start"].shortest)
    lead[:, op.END] = DONE
    for tokens, name in grammar.reads.items():
        lead[START:, encode(tokens)] = number[name]
    if "zero" in states:  # more digits do not mend a literal with leading zeros
        lead[DEAD, encode(_DIGITS)] = DEAD
    if thinks:
        lead[DEAD:, op.OPEN] = THINKING
    for name, state in states.items():
        finish[number[name]] = state.shortest
    for name, state in states.items():
        for tokens, following in state.moves.items():
            lead[number[name], encode(tokens)] = number[following]
            if following != "dead":
                slack = 1 + finish[number[following]] - state.shortest
                cost[number[name], encode(tokens)] = slack if thinks else 0
    begins = np.arange(len(lead), dtype=np.int16)
    for name, state in states.items():
        begins[number[name]] = number[state.begins or name]
    return Table(np.column_stack([lead, begins]), finish, _masks(cost, thinks), _ANY_BODY, thinks, nests=False)


def _common(states: int, shortest: int) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]:
    """Return lead (S, 65), cost (S, 65) and finish (S,) with the rows of the states that every form has filled in."""
    lead = np.full((states, len(VOCABULARY)), START, np.int16)
    cost = np.full(lead.shape, NEVER, np.int64)
    finish = np.full(states, shortest, np.int64)
    finish[THINKING] += 1
    finish[DONE] = 0
    lead[THINKING], cost[THINKING, op.BODY :] = THINKING, 1
    lead[THINKING, op.CLOSE], cost[THINKING, [op.OPEN, op.CLOSE]] = START, (NEVER, 0)
    return lead, cost, finish


@functools.cache
def _words_table(words: tuple[str, ...]) -> Table:
    """The table of ``words``. A state says: what the last token was, the innermost block, whether in a loop, after
    `def`, at full depth."""
    for word in words:
        if word not in ID or ID[word] < op.BODY or ID[word] in (op.OPEN, op.CLOSE):
            raise ValueError(f"words: {word!r} cannot stand in a body; give token names from `,` on, without ( )")
    for opener, closer in _PAIRS.items():
        if (opener in words) != (closer in words):
            raise ValueError(f"words: `{opener}` and `{closer}` go together, but only one is given")
    for word, opener in (("else", "if"), ("call", "def"), ("i", "times")):
        if word in words and opener not in words:
            raise ValueError(f"words: `{word}` needs `{opener}`, which is not given")
    placed = {*_PAIRS, *_PAIRS.values(), "else", "call", "i", ","}
    states = START + (AFTER_COMMA + 1) * PER_LITERAL
    lead, cost, finish = _common(states, 1)
    digits = [word for word in words if word in VOCABULARY[op.ZERO : op.NINE + 1]]
    for state in range(START, states):
        literal, rest = divmod(state - START, PER_LITERAL)
        if literal == AFTER_COMMA:
            finish[state] += 1
            cost[state, [ID[word] for word in digits]] = 0
            continue
        block, in_loop, function, full = np.unravel_index(rest, (len(_CLOSERS) + 1, 2, 2, 2))
        allowed = {"(": 2, **{word: 1 for word in words if word not in placed}}
        if literal == IN_LITERAL and digits:
            allowed[","] = 2
        if block == 0:
            allowed["end"] = 0
        else:
            allowed |= {closer: int(closer == "else") for closer in _CLOSERS[int(block)]}
        if not full:
            allowed |= dict.fromkeys(("if", "times", "begin"), 2)
        if block == 0 and not function:
            allowed["def"] = 2
        if function:
            allowed["call"] = 1
        if in_loop:
            allowed["i"] = 1
        for word, price in allowed.items():
            if word in words or word in ("(", "end"):
                cost[state, ID[word]] = price
    return Table(lead, finish, _masks(cost, thinks=True), _ANY_BODY, thinks=True, nests=True)


def _masks(cost: NDArray[np.int64], thinks: bool) -> NDArray[np.int8]:
    """Return the masks (6 S, 65) for costs (S, 65): row 6 state + 2 min(slack, 2) + (a thought may grow)."""
    masks = np.stack([np.stack([cost <= slack] * 2, axis=1) for slack in range(3)], axis=1)  # (S, 3, 2, 65)
    if thinks:
        masks[THINKING, :, 0] = np.arange(cost.shape[1]) == op.CLOSE
        masks[START:, :, 0, op.OPEN] = False
    masks[[DONE, DEAD]] = False
    return masks.reshape(-1, cost.shape[1]).astype(np.int8)


@kernel
def advance(cells: Ints, token: Int, table: Table) -> None:
    """Move an automaton over a token, allowed or not."""
    state = cells[STATE]
    if table.thinks and (state == THINKING or token == op.OPEN):
        cells[THOUGHT] += 1
    if table.nests:
        nest(cells, token)
    else:
        cells[STATE] = table.lead[state, token]


@kernel
def nest(cells: Ints, token: Int) -> None:
    """Move an automaton of ``words`` over a token, tracking the open blocks."""
    state = cells[STATE]
    if state == DEAD:
        return
    if state == THINKING:
        if token != op.CLOSE:
            return
    elif token == op.OPEN:
        cells[STATE] = THINKING
        return
    elif token == op.END:
        cells[STATE] = DONE
        return
    elif token == op.IF or token == op.TIMES or token == op.BEGIN or token == op.DEF:
        block = (
            IN_IF if token == op.IF else IN_TIMES if token == op.TIMES else IN_BEGIN if token == op.BEGIN else IN_DEF
        )
        if cells[DEPTH] == BLOCK_DEPTH:
            cells[STATE] = DEAD
            return
        cells[BLOCKS] = cells[BLOCKS] * 8 + block
        cells[DEPTH] += 1
        if token == op.TIMES:
            cells[LOOPS] += 1
        elif token == op.DEF:
            cells[FUNCTION] = 1
    elif token == op.ELSE:
        if cells[BLOCKS] % 8 != IN_IF:
            cells[STATE] = DEAD
            return
        cells[BLOCKS] += IN_ELSE - IN_IF
    elif token == op.FI or token == op.NEXT or token == op.UNTIL or token == op.RET:
        block = cells[BLOCKS] % 8
        if not (
            (token == op.FI and (block == IN_IF or block == IN_ELSE))
            or (token == op.NEXT and block == IN_TIMES)
            or (token == op.UNTIL and block == IN_BEGIN)
            or (token == op.RET and block == IN_DEF)
        ):
            cells[STATE] = DEAD
            return
        cells[BLOCKS] //= 8
        cells[DEPTH] -= 1
        if token == op.NEXT:
            cells[LOOPS] -= 1
    flags = 4 * min(cells[LOOPS], 1) + 2 * cells[FUNCTION] + np.int64(cells[DEPTH] == BLOCK_DEPTH)
    literal = IN_LITERAL if op.ZERO <= token <= op.NINE else AFTER_COMMA if token == op.COMMA else NO_LITERAL
    cells[STATE] = START + PER_LITERAL * literal + 8 * (cells[BLOCKS] % 8) + flags


@kernel
def mask_row(cells: Ints, table: Table, max_tokens: Int, thought_tokens: Int) -> Int:
    """The row of `Table.masks` for an automaton under its budgets."""
    state = cells[STATE]
    most = min(max_tokens, cells[BODY] + 1 + cells[THOUGHT] + np.int64(state == THINKING))
    slack = most - cells[SPENT] - table.finish[state] - cells[DEPTH]
    more = cells[THOUGHT] + 2 <= thought_tokens  # the token and a `)` after it
    row: Int = MASKS_PER_STATE * state + 2 * max(0, min(slack, 2)) + np.int64(more)
    return row


@kernel
def start(prompt: Tokens, cells: Ints, table: Table) -> None:
    """Set an automaton to the state in which a completion of the prompt starts."""
    for k in range(CELLS):
        cells[k] = 0
    cells[STATE] = START
    cells[BODY] = UNLIMITED
    cases: Int = 0
    position = 0
    if prompt.size > 0 and prompt[0] == op.BOS:
        position = 1
    if prompt.size > position and op.CASE <= prompt[position] <= op.EXACTLY:
        while position < prompt.size and prompt[position] != op.DO:
            cases += np.int64(prompt[position] == op.CASE)
            position += 1
        if position == prompt.size and table.thinks:  # only `free` can close an open header
            cells[STATE] = DEAD
        position += 1
    if not table.nests:  # as `advance` does, in half the time with the state in a register
        state = np.int64(cells[STATE])
        while position < prompt.size and state != DONE:
            state = np.int64(table.lead[np.uint64(state), np.uint64(prompt[np.uint64(position)])])
            position += 1
        cells[STATE] = table.lead[state, PROMPT_END]
    first = position
    while table.nests and position < prompt.size and cells[STATE] != DONE:
        advance(cells, np.int64(prompt[position]), table)
        position += 1
    if table.nests and cases < table.body.size:
        cells[BODY] = table.body[cases] - (position - first - cells[THOUGHT])
    cells[THOUGHT] = 0  # thoughts of the prompt do not count against the completion's budget


@kernel
def start_rows(prompts: Tokens, lengths: Ints, cells: Ints, table: Table) -> None:
    for k in range(prompts.shape[0]):
        start(prompts[k, : lengths[k]], cells[k], table)


@kernel
def push_rows(cells: Ints, tokens: Ints, table: Table) -> None:
    for k in range(tokens.size):
        if cells[k, STATE] != DONE:
            cells[k, SPENT] += 1
            advance(cells[k], np.int64(tokens[k]), table)


@kernel
def reverse_rows(tokens: Tokens) -> None:
    for k in range(tokens.shape[0]):
        stop = 0
        while stop < tokens.shape[1]:
            begin = stop
            while stop < tokens.shape[1] and op.ZERO <= tokens[k, stop] <= op.NINE:
                stop += 1
            for offset in range((stop - begin) // 2):
                digit = tokens[k, begin + offset]
                tokens[k, begin + offset] = tokens[k, stop - 1 - offset]
                tokens[k, stop - 1 - offset] = digit
            if stop == begin:
                stop += 1


def reverse_digits(tokens: Tokens) -> Tokens:
    """Return tokens (..., L) uint8 with every run of digits reversed, as ``endian="little"`` shows them."""
    rows = np.array(tokens, np.uint8, order="C")
    reverse_rows(rows.reshape(-1, rows.shape[-1]) if rows.size else rows.reshape(0, 0))
    return rows


class Automata:
    """The automata of B completions side by side.

    ``prompts`` (B, L) uint8 with ``lengths`` (B,) are big-endian, as in the language; pushed tokens are in the order of
    ``endian``. Raises ValueError for a prompt that cannot be finished under the rules.
    """

    def __init__(self, rules: Rules, prompts: Tokens, lengths: NDArray[np.integer], endian: str = "big") -> None:
        self.table = table(rules.form, rules.words, endian, rules.body_tokens)
        self.max_tokens, self.thought_tokens = rules.max_tokens, rules.thought_tokens
        self.cells = np.zeros((len(prompts), CELLS), np.int64)
        shown = check_ids(np.asarray(prompts))
        if endian == "little":
            shown = reverse_digits(shown)
        start_rows(shown, np.asarray(lengths, np.int64), self.cells, self.table)
        state = self.cells[:, STATE]
        shortest = self.table.finish[state] + self.cells[:, DEPTH]
        closers = shortest - 1  # tokens of the body that a completion must add
        beyond = np.where(self.cells[:, BODY] < UNLIMITED // 2, closers > self.cells[:, BODY], False)
        for k in np.flatnonzero((state == DEAD) | (state == DONE) | (shortest > self.max_tokens) | beyond)[:1]:
            prompt = disassemble(prompts[k, : lengths[k]])
            raise ValueError(
                f"prompt {k}, {prompt!r}: form {rules.form!r} cannot finish from there in {rules.max_tokens} tokens"
            )

    def check_literals(self, prompts: Tokens, lengths: NDArray[np.integer]) -> None:
        """Raise ValueError if a prompt (B, L) ends with digits that a completion may extend.

        Under "little" the new digits would come before the prompt's, so it would not be a prefix of its program. Call
        this before the first push.
        """
        rows = np.flatnonzero(lengths)
        last = prompts[rows, lengths[rows] - 1]
        widest = self.table.masks[MASKS_PER_STATE * (self.cells[rows, STATE] + 1) - 1]  # the row without budget limits
        longer = (last >= op.ZERO) & (last <= op.NINE) & widest[:, op.ZERO : op.NINE + 1].any(1)
        for k in rows[longer][:1]:
            raise ValueError(
                f"prompt {k}, {disassemble(prompts[k, : lengths[k]])!r}, ends inside a literal: under endian 'little' "
                "more digits would come before its own; add the token that follows it, such as `eq` or `,`"
            )

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which completions have ended, (B,): by `end` or, under ``free``, at the budget."""
        done: NDArray[np.bool_] = (self.cells[:, STATE] == DONE) | (self.cells[:, SPENT] >= self.max_tokens)
        return done

    def mask(self) -> NDArray[np.bool_]:
        """Which tokens may come next, (B, 65), True = allowed; none for completions that have ended."""
        state, spent, thought = self.cells[:, STATE], self.cells[:, SPENT], self.cells[:, THOUGHT]
        most = np.minimum(self.max_tokens, self.cells[:, BODY] + 1 + thought + (state == THINKING))
        slack = most - spent - self.table.finish[state] - self.cells[:, DEPTH]
        more = thought + 2 <= self.thought_tokens
        masks: NDArray[np.bool_] = self.table.masks[MASKS_PER_STATE * state + 2 * np.clip(slack, 0, 2) + more].astype(
            np.bool_
        )
        masks[self.done] = False
        return masks

    def push(self, tokens: NDArray[np.integer]) -> None:
        """Take the next token (B,) of each completion; it is ignored for those that have ended."""
        push_rows(self.cells, np.asarray(tokens, np.int64), self.table)

    def select(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> None:
        """Keep only these completions, in this order."""
        self.cells = np.ascontiguousarray(self.cells[rows])


def check_prompt(prompt: Tokens, rules: Rules, endian: str = "big") -> None:
    """Raise ValueError if no completion under the rules makes the prompt (n,) uint8 a well-formed program."""
    form, lengths = rules.form, np.array([prompt.size], np.int64)
    automata = Automata(replace(rules, thought_tokens=0), prompt[None], lengths, endian)
    if endian == "little":
        automata.check_literals(prompt[None], lengths)
    if form == "free":
        return
    automata.max_tokens = int(automata.table.finish[automata.cells[0, STATE]] + automata.cells[0, DEPTH])
    shortest: list[int] = []
    while not automata.done[0]:  # without slack, only the shortest way is allowed
        shortest.append(int(automata.mask()[0].argmax()))
        automata.push(np.array(shortest[-1:]))
    program = np.concatenate([prompt, np.array(shortest, np.uint8)])
    if prepare(program, scratch(program.size))[0] in (SYNTAX, UNTERMINATED):
        text = disassemble(prompt)
        raise ValueError(f"prompt {text!r}: no completion of form {form!r} makes it a well-formed program")
