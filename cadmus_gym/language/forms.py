"""What a completion may look like: small automata, and the masks that derive from them.

A form is a table: for each state, what each token costs and where it leads. The cost is what a token takes from the
slack, the tokens a completion may spend beyond the shortest way to its `end`; a token is allowed while the slack lasts,
so whatever is allowed can still be finished. A prompt is read by the same table, so the state in which a completion
starts is a function of the prompt's text.

- ``value``: ``{thought} literal ["neg"] "eq" "end"``, the literal without leading zeros
- ``relation``: ``{thought} ("end" | "not" "end")``
- ``answer``: either of these, for a mixture of both kinds of questions
- ``words``: thoughts, and a given list of tokens in well-nested order, then ``end``
- ``free``: anything; the only form in which the budget of tokens can run out
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.notation import check_ids, disassemble
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import BLOCK_DEPTH, SYNTAX, UNTERMINATED

FORMS = ("value", "relation", "answer", "words", "free")
ENDIANS = ("big", "little")


@dataclass(frozen=True)
class Rules:
    """What a completion may look like, and how many tokens it may spend.

    ``form`` is one of `FORMS`, and ``words`` are the tokens of form "words". ``max_tokens`` bounds a completion,
    thoughts and `end` included; ``thought_tokens`` of them, both parentheses included, may be spent on thoughts.
    """

    form: str
    words: tuple[str, ...] = ()
    max_tokens: int = 64
    thought_tokens: int = 48


THINKING, DONE, DEAD, START = range(4)  # states that every form has
BEHIND = len(VOCABULARY)  # the column of `Table.lead` for the end of a prompt
NEVER = 3  # the cost of a token that is not allowed; all others are 0, 1 or 2
MASKS_PER_STATE = 6  # slack of 0, 1, 2 or more, times: may another token of thought be spent or not

# The cells that hold one automaton, int64: its state; tokens and tokens of thought spent; under `words` the blocks open
# around this place (three bits each, innermost lowest), their number, the `times` among them, and whether `def` was
# seen.
STATE, SPENT, THOUGHT, BLOCKS, DEPTH, LOOPS, FUNCTION, CELLS = range(8)

IN_IF, IN_ELSE, IN_TIMES, IN_BEGIN, IN_DEF = range(1, 6)  # what a place can stand in, as kept in BLOCKS; 0 is none
_CLOSERS = {
    IN_IF: ("else", "fi"),
    IN_ELSE: ("fi",),
    IN_TIMES: ("next",),
    IN_BEGIN: ("until",),
    IN_DEF: ("ret",),
}
_PAIRS = {"if": "fi", "times": "next", "begin": "until", "def": "ret"}
_DIGITS = VOCABULARY[op.ZERO : op.NINE + 1]


@dataclass(frozen=True)
class Table:
    """A form as a table over S states.

    ``lead`` (S, 66) int16 is the state behind a token, whatever is read, and last that in which a completion starts
    where a prompt ends; under ``words``, where the nesting decides, the kernel finds both. ``finish`` (S,) int64 is the
    least number of tokens to `end`, open blocks not counted. ``masks`` (6 S, 65) int8 has the allowed tokens, six rows
    a state. ``thinks``: whether `(` opens a thought; ``nests``: whether blocks are followed.
    """

    lead: NDArray[np.int16]
    finish: NDArray[np.int64]
    masks: NDArray[np.int8]
    thinks: bool
    nests: bool


def table(form: str, words: Sequence[str] = (), endian: str = "big") -> Table:
    """Return the table of a form. Raises ValueError for an unknown form or endian, or words that cannot be nested."""
    if not isinstance(form, str) or form not in FORMS:
        raise ValueError(f"form = {form!r}: known are {', '.join(FORMS)}")
    if not isinstance(endian, str) or endian not in ENDIANS:
        raise ValueError(f"endian = {endian!r}: known are {', '.join(ENDIANS)}")
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"words = {words!r}: expected a list of names of tokens")
    return _table(form, tuple(words), endian)


@functools.cache
def _table(form: str, words: tuple[str, ...], endian: str) -> Table:
    if (form == "words") != bool(words):
        raise ValueError(f"form = {form!r} with words = {list(words)}: 'words' needs a list of words, no other has one")
    if form == "words":
        return _words_table(words)
    # state -> (shortest way to `end`, {tokens: state behind}); a state not named by any is numbered in this order
    rules: dict[str, tuple[int, dict[str | tuple[str, ...], str]]]
    if form == "free":
        rules = {"start": (0, {VOCABULARY: "start", "end": "done"})}
    elif form == "relation":
        rules = {
            "start": (1, {"(": "thinking", "not": "negated", "end": "done"}),
            "negated": (1, {"end": "done"}),
        }
    else:
        rules = {
            "start": (3, {"(": "thinking", "0": "zero", _DIGITS[1:]: "literal"}),
            "zero": (2, {_DIGITS: "dead", "neg": "negated", "eq": "compared"}),
            "literal": (2, {_DIGITS: "literal", "neg": "negated", "eq": "compared"}),
            "negated": (2, {"eq": "compared"}),
            "compared": (1, {"end": "done"}),
        }
        if form == "answer":
            value = rules["start"][1]
            rules["start"] = (1, {**value, "not": "denied", "end": "done"})
            rules["denied"] = (1, {"end": "done"})
        if endian == "little":  # the last digit written leads: it may be 0 only where it stands alone
            longer: dict[str | tuple[str, ...], str] = {"0": "trailing", _DIGITS[1:]: "literal"}
            for name in ("zero", "literal"):
                rules[name] = (2, {**longer, "neg": "negated", "eq": "compared"})
            rules["trailing"] = (3, longer)
    number = {
        "thinking": THINKING,
        "done": DONE,
        "dead": DEAD,
        **{name: START + k for k, name in enumerate(rules)},
    }
    shape = len(rules) + START, len(VOCABULARY)
    lead, cost, finish = _states(shape, rules["start"][0])
    lead[:, op.END] = DONE
    if form in ("value", "answer"):  # where no rule says otherwise a digit begins a literal
        lead[START:, op.ZERO], lead[START:, op.ZERO + 1 : op.NINE + 1] = number["zero"], number["literal"]
        lead[DEAD, op.ZERO : op.NINE + 1] = DEAD
    if form == "relation":
        lead[START:, op.NOT] = number["negated"]
    if form != "free":
        lead[DEAD:, op.OPEN] = THINKING
    for name, (shortest, _) in rules.items():
        finish[number[name]] = shortest
    for name, (_, moves) in rules.items():
        for tokens, behind in moves.items():
            ids = [ID[token] for token in ((tokens,) if isinstance(tokens, str) else tokens)]
            lead[number[name], ids] = number[behind]
            if behind != "dead":
                slack = 1 + finish[number[behind]] - finish[number[name]]
                cost[number[name], ids] = 0 if form == "free" else slack
    begins = np.arange(len(lead), dtype=np.int16)
    if form == "answer":  # `5 5 eq` is a question about two numbers, and no answer that has begun
        begins[number["compared"]] = START
    lead = np.column_stack([lead, begins])
    return Table(lead, finish, _masks(cost, form != "free"), thinks=form != "free", nests=False)


def _states(shape: tuple[int, int], shortest: int) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]:
    """Return lead, cost and finish of shape (S, 65) and (S,) with the rows of thinking filled in."""
    lead = np.full(shape, START, np.int16)
    cost = np.full(shape, NEVER, np.int64)
    finish = np.full(shape[0], shortest, np.int64)
    finish[THINKING] += 1
    finish[DONE] = 0
    lead[THINKING], cost[THINKING, op.BODY :] = THINKING, 1
    lead[THINKING, op.CLOSE], cost[THINKING, [op.OPEN, op.CLOSE]] = START, (NEVER, 0)
    return lead, cost, finish


def _words_table(words: tuple[str, ...]) -> Table:
    """The table of ``words``: states say what block a place stands in, in a loop, behind `def`, as deep as may be."""
    for word in words:
        if word not in ID or ID[word] < op.BODY or ID[word] in (op.OPEN, op.CLOSE):
            raise ValueError(f"words: {word!r} cannot stand in a body; give names of tokens from `,` on, without ( )")
    for opener, closer in _PAIRS.items():
        if (opener in words) != (closer in words):
            raise ValueError(f"words: `{opener}` and `{closer}` go together, and only one is given")
    for word, opener in (("else", "if"), ("call", "def"), ("i", "times")):
        if word in words and opener not in words:
            raise ValueError(f"words: `{word}` needs `{opener}`, which is not given")
    placed = {*_PAIRS, *_PAIRS.values(), "else", "call", "i"}
    states = START + (len(_CLOSERS) + 1) * 8
    lead, cost, finish = _states((states, len(VOCABULARY)), 1)
    for state in range(START, states):
        block, in_loop, function, full = np.unravel_index(state - START, (len(_CLOSERS) + 1, 2, 2, 2))
        allowed = {"(": 2, **{word: 1 for word in words if word not in placed}}
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
    return Table(lead, finish, _masks(cost, thinks=True), thinks=True, nests=True)


def _masks(cost: NDArray[np.int64], thinks: bool) -> NDArray[np.int8]:
    """Return the masks (6 S, 65) of costs (S, 65): row 6 state + 2 min(slack, 2) + (thought may go on)."""
    masks = np.stack([np.stack([cost <= slack] * 2, axis=1) for slack in range(3)], axis=1)  # (S, 3, 2, 65)
    if thinks:
        masks[THINKING, :, 0] = np.arange(cost.shape[1]) == op.CLOSE
        masks[START:, :, 0, op.OPEN] = False
    masks[[DONE, DEAD]] = False
    return masks.reshape(-1, cost.shape[1]).astype(np.int8)


@kernel
def advance(cells: Ints, token: Int, lead: NDArray[np.int16], thinks: bool, nests: bool) -> None:
    """Move an automaton over a token, allowed or not."""
    state = cells[STATE]
    if thinks and (state == THINKING or token == op.OPEN):
        cells[THOUGHT] += 1
    if not nests:
        cells[STATE] = lead[state, token]
        return
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
    cells[STATE] = START + 8 * (cells[BLOCKS] % 8) + flags


@kernel
def mask_row(cells: Ints, finish: Ints, max_tokens: Int, thought_tokens: Int) -> Int:
    """The row of `Table.masks` that holds for an automaton under its budgets."""
    state = cells[STATE]
    slack = max_tokens - cells[SPENT] - finish[state] - cells[DEPTH]
    more = cells[THOUGHT] + 2 <= thought_tokens  # one and the `)` behind it
    row: Int = MASKS_PER_STATE * state + 2 * max(0, min(slack, 2)) + np.int64(more)
    return row


@kernel
def start(prompt: Tokens, cells: Ints, lead: NDArray[np.int16], thinks: bool, nests: bool) -> None:
    """Set an automaton to the state in which a prompt ends."""
    for k in range(CELLS):
        cells[k] = 0
    cells[STATE] = START
    position = 0
    if prompt.size > 0 and prompt[0] == op.BOS:
        position = 1
    if prompt.size > position and op.CASE <= prompt[position] <= op.EXACTLY:
        while position < prompt.size and prompt[position] != op.DO:
            position += 1
        if position == prompt.size and thinks:  # the header is not closed, and only `free` can close it
            cells[STATE] = DEAD
        position += 1
    if not nests:  # what `advance` does, with the state at hand: half the time
        state = np.int64(cells[STATE])
        while position < prompt.size and state != DONE:
            state = np.int64(lead[np.uint64(state), np.uint64(prompt[np.uint64(position)])])
            position += 1
        cells[STATE] = lead[state, BEHIND]
    while nests and position < prompt.size and cells[STATE] != DONE:
        advance(cells, np.int64(prompt[position]), lead, thinks, nests)
        position += 1
    cells[THOUGHT] = 0  # what the prompt thought is not the completion's expense


@kernel
def start_rows(prompts: Tokens, lengths: Ints, cells: Ints, lead: NDArray[np.int16], thinks: bool, nests: bool) -> None:
    for k in range(prompts.shape[0]):
        start(prompts[k, : lengths[k]], cells[k], lead, thinks, nests)


@kernel
def push_rows(cells: Ints, tokens: Ints, lead: NDArray[np.int16], thinks: bool, nests: bool) -> None:
    for k in range(tokens.size):
        if cells[k, STATE] != DONE:
            cells[k, SPENT] += 1
            advance(cells[k], np.int64(tokens[k]), lead, thinks, nests)


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
    """Return tokens (..., L) uint8 with every maximal run of digits reversed: the codec of ``endian="little"``."""
    rows = np.array(tokens, np.uint8, order="C")
    reverse_rows(rows.reshape(-1, rows.shape[-1]) if rows.size else rows.reshape(0, 0))
    return rows


class Automata:
    """The automata of B completions side by side.

    ``prompts`` (B, L) uint8 and ``lengths`` (B,) are in the language's own order of digits; under "little" the
    tokens pushed come in the reversed one. Raises ValueError for a prompt that the rules do not let finish.
    """

    def __init__(self, rules: Rules, prompts: Tokens, lengths: NDArray[np.integer], endian: str = "big") -> None:
        self.table = table(rules.form, rules.words, endian)
        self.max_tokens, self.thought_tokens = rules.max_tokens, rules.thought_tokens
        self.cells = np.zeros((len(prompts), CELLS), np.int64)
        shown = check_ids(np.asarray(prompts))
        if endian == "little":
            shown = reverse_digits(shown)
        start_rows(shown, np.asarray(lengths, np.int64), self.cells, *self._lead)
        state = self.cells[:, STATE]
        shortest = self.table.finish[state] + self.cells[:, DEPTH]
        for k in np.flatnonzero((state == DEAD) | (state == DONE) | (shortest > self.max_tokens))[:1]:
            prompt = disassemble(prompts[k, : lengths[k]])
            raise ValueError(
                f"prompt {k}, {prompt!r}: form {rules.form!r} cannot finish from there in {rules.max_tokens} tokens"
            )

    def check_literals(self, prompts: Tokens, lengths: NDArray[np.integer]) -> None:
        """Raise ValueError where digits may follow those of a prompt (B, L): under "little" they would come before it.

        Then a prompt would be no prefix of its program. To be called before anything is pushed.
        """
        rows = np.flatnonzero(lengths)
        last = prompts[rows, lengths[rows] - 1]
        widest = self.table.masks[MASKS_PER_STATE * (self.cells[rows, STATE] + 1) - 1]  # where no budget is short
        longer = (last >= op.ZERO) & (last <= op.NINE) & widest[:, op.ZERO : op.NINE + 1].any(1)
        for k in rows[longer][:1]:
            raise ValueError(
                f"prompt {k}, {disassemble(prompts[k, : lengths[k]])!r}, ends inside a literal: under endian 'little' "
                "more digits would come before its own; add the token that follows it, such as `eq` or `,`"
            )

    @property
    def _lead(self) -> tuple[NDArray[np.int16], bool, bool]:
        return self.table.lead, self.table.thinks, self.table.nests

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which completions have ended, (B,): with `end`, or (under ``free``) with the budget."""
        done: NDArray[np.bool_] = (self.cells[:, STATE] == DONE) | (self.cells[:, SPENT] >= self.max_tokens)
        return done

    def mask(self) -> NDArray[np.bool_]:
        """Which tokens may come next, (B, 65), True = allowed; none where a completion has ended."""
        state, spent, thought = self.cells[:, STATE], self.cells[:, SPENT], self.cells[:, THOUGHT]
        slack = self.max_tokens - spent - self.table.finish[state] - self.cells[:, DEPTH]
        more = thought + 2 <= self.thought_tokens
        masks: NDArray[np.bool_] = self.table.masks[MASKS_PER_STATE * state + 2 * np.clip(slack, 0, 2) + more].astype(
            np.bool_
        )
        masks[self.done] = False
        return masks

    def push(self, tokens: NDArray[np.integer]) -> None:
        """Take the next token (B,) of each completion; those that have ended take none."""
        push_rows(self.cells, np.asarray(tokens, np.int64), *self._lead)

    def select(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> None:
        """Keep these completions only, in this order."""
        self.cells = np.ascontiguousarray(self.cells[rows])


def check_prompt(prompt: Tokens, rules: Rules, endian: str = "big") -> None:
    """Raise ValueError where no completion under the rules makes a well-formed program of the prompt (n,) uint8."""
    form, lengths = rules.form, np.array([prompt.size], np.int64)
    automata = Automata(replace(rules, thought_tokens=0), prompt[None], lengths, endian)
    if endian == "little":
        automata.check_literals(prompt[None], lengths)
    if form == "free":
        return
    automata.max_tokens = int(automata.table.finish[automata.cells[0, STATE]] + automata.cells[0, DEPTH])
    shortest: list[int] = []
    while not automata.done[0]:  # without slack only the shortest way is allowed
        shortest.append(int(automata.mask()[0].argmax()))
        automata.push(np.array(shortest[-1:]))
    program = np.concatenate([prompt, np.array(shortest, np.uint8)])
    if prepare(program, scratch(program.size))[0] in (SYNTAX, UNTERMINATED):
        text = disassemble(prompt)
        raise ValueError(f"prompt {text!r}: no completion of form {form!r} makes a well-formed program of it")
