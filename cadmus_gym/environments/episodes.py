"""Episodes side by side: the mechanism that the single and the vector environment share.

An episode is a row in several arrays: its tokens as the agent sees them, the automaton of its form, and how it ended. A
step is one kernel call for all rows, whatever the task family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.arguments import check_seed
from cadmus_gym.language import forms
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import (
    CELLS,
    DEAD,
    DEPTH,
    DONE,
    MASKS_PER_STATE,
    SPENT,
    STATE,
    Table,
    advance,
    check_prompt,
    mask_row,
    reverse_digits,
    reverse_rows,
)
from cadmus_gym.language.isa import VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import judge
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.notation import as_tokens
from cadmus_gym.language.verdicts import TRUE, UNTERMINATED, Verdict
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream
from cadmus_gym.tasks.synthesis.hidden import PACKED, ROOM, are_references, judge_packed
from cadmus_gym.tasks.synthesis.idle import ROOM as IDLE_ROOM
from cadmus_gym.tasks.synthesis.idle import uses_idly

QUEUE = 32  # prompts drawn ahead per row

# How an episode ended: the rows of a uint8 array with one column per episode.
VERDICT, PASSED, CASES, SUCCESS, ILLEGAL, VISIBLE, HIDDEN, HIDDEN_CASES, IDLE_USE, OUTCOME = range(10)
END_INFO: dict[str, type] = {
    "verdict": int,
    "passed": int,
    "cases": int,
    "is_success": bool,
    "illegal": bool,
    "visible": bool,
    "hidden": bool,
    "hidden_cases": int,
    "idle_use": bool,
}
ENDED = MASKS_PER_STATE * DONE  # the row of the masks for episodes that have ended or not begun


class Limits(NamedTuple):
    """How the episodes of a spec end and are rewarded, as kernels read it."""

    max_tokens: int
    thought_tokens: int
    may_run_out: bool  # of tokens, under the form ``free``
    little: bool  # endian
    by_cases: bool  # the reward is the share of cases passed
    by_hidden: bool  # success requires hidden cases to pass too
    by_use: bool  # success requires that no `use` is met by idle words only


@kernel
def begin(
    rows: Ints,
    first: Int,
    queue: Tokens,
    queued: NDArray[np.int32],
    waiting: Tokens,
    indices: Ints,
    drawn: Ints,
    tokens: Tokens,
    lengths: NDArray[np.int32],
    references: Tokens,
    cells: Ints,
    allowed: Ints,
    rules: tuple[Any, ...],
    bounds: tuple[Any, ...],
) -> Int:
    """Begin episodes in ``rows[first:]`` from the queue (Q, N, P), up to a row whose queue is empty; return its index.

    The queue is a ring: prompt i of a row is in slot i % Q, its length in ``queued`` (Q, N), and its packed reference
    in ``waiting`` (Q, N, W).
    """
    table, limits = Table(*rules), Limits(*bounds)
    for k in range(first, rows.size):
        row = rows[k]
        if drawn[row] <= indices[row]:
            return k
        slot = indices[row] % queue.shape[0]
        indices[row] += 1
        length = queued[slot, row]
        for position in range(length):
            tokens[row, position] = queue[slot, row, position]
        for position in range(length, lengths[row]):  # the rest of the row is zeros already
            tokens[row, position] = 0
        if limits.little:
            reverse_rows(tokens[row : row + 1, :length])
        lengths[row] = length
        for byte in range(references.shape[1]):
            references[row, byte] = waiting[slot, row, byte]
        forms.start(tokens[row, :length], cells[row], table)
        allowed[row] = mask_row(cells[row], table, limits.max_tokens, limits.thought_tokens)
    return rows.size


@kernel
def enqueue(
    rows: Ints,
    indices: Ints,
    programs: Tokens,
    prompt_lengths: NDArray[np.int32],
    references: Tokens,
    queue: Tokens,
    queued: NDArray[np.int32],
    waiting: Tokens,
) -> None:
    """Put the prompts of programs (n, L) and references (n, W) into the queues of rows (n,), at these indices."""
    for k in range(rows.size):
        slot = indices[k] % queue.shape[0]
        queued[slot, rows[k]] = prompt_lengths[k]
        for position in range(prompt_lengths[k]):
            queue[slot, rows[k], position] = programs[k, position]
        for byte in range(references.shape[1]):
            waiting[slot, rows[k], byte] = references[k, byte]


@kernel
def step(
    actions: Ints,
    idle: NDArray[np.bool_],
    tokens: Tokens,
    lengths: NDArray[np.int32],
    references: Tokens,
    cells: Ints,
    allowed: Ints,
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    ends: NDArray[np.uint8],
    rules: tuple[Any, ...],
    bounds: tuple[Any, ...],
    room: Tokens,
    cells_of_use: Ints,
    work: Ints,
) -> Int:
    """Take one token in every row that is not idle; return the number of episodes that ended.

    The result arrays (rewards, terminated, truncated, ends) must hold zeros.
    """
    table, limits = Table(*rules), Limits(*bounds)
    count = 0
    for row in range(actions.size):
        if idle[row]:
            continue
        token = actions[row]
        if table.masks[allowed[row], token] == 0:
            terminated[row] = True
            allowed[row] = ENDED
            ends[VERDICT, row] = UNTERMINATED
            ends[ILLEGAL, row] = 1
            count += 1
            continue
        length = lengths[row]
        tokens[row, length] = token
        length += 1
        lengths[row] = length
        cells[row, SPENT] += 1
        advance(cells[row], token, table)
        if token == op.END:
            if limits.little:
                for position in range(length):
                    room[0, position] = tokens[row, position]
                reverse_rows(room[:1, :length])
                program = room[0, :length]
            else:
                program = tokens[row, :length]
            verdict, passed, cases, _, _ = judge(program, work)
            terminated[row] = True
            allowed[row] = ENDED
            visible = np.int64(verdict == TRUE)
            hidden = visible
            if visible and references.shape[1] > 0:
                generalises, ends[HIDDEN_CASES, row] = judge_packed(program, references[row], work)
                hidden = np.int64(generalises)
            success = hidden if limits.by_hidden else visible
            if visible and uses_idly(program, room[1], room[2], cells_of_use, work):
                ends[IDLE_USE, row] = 1
                success = np.int64(0) if limits.by_use else success
            ends[VISIBLE, row] = visible
            ends[HIDDEN, row] = hidden
            ends[VERDICT, row] = verdict
            ends[PASSED, row] = passed
            ends[CASES, row] = cases
            ends[SUCCESS, row] = success
            rewards[row] = passed / max(cases, 1) if limits.by_cases else success
            count += 1
        elif limits.may_run_out and cells[row, SPENT] >= limits.max_tokens:
            truncated[row] = True
            allowed[row] = ENDED
            ends[VERDICT, row] = UNTERMINATED
            count += 1
        else:
            allowed[row] = mask_row(cells[row], table, limits.max_tokens, limits.thought_tokens)
    return count


@kernel
def replay(
    tokens: Tokens,
    prompt_lengths: Ints,
    lengths: NDArray[np.int32],
    cells: Ints,
    allowed: Ints,
    table: Table,
    limits: Limits,
) -> None:
    """Recompute automata and mask rows of episodes (n, L) from their tokens; the row is -1 after an illegal token."""
    for row in range(lengths.size):
        forms.start(tokens[row, : prompt_lengths[row]], cells[row], table)
        allowed[row] = mask_row(cells[row], table, limits.max_tokens, limits.thought_tokens)
        for position in range(prompt_lengths[row], lengths[row]):
            token = np.int64(tokens[row, position])
            if table.masks[allowed[row], token] == 0:
                allowed[row] = -1
                break
            cells[row, SPENT] += 1
            advance(cells[row], token, table)
            allowed[row] = mask_row(cells[row], table, limits.max_tokens, limits.thought_tokens)


@dataclass(frozen=True)
class State:
    """A snapshot of some episodes, which can be restored any number of times. Its arrays are read-only copies."""

    tokens: Tokens
    lengths: NDArray[np.int32]
    cells: Ints
    allowed: Ints
    masks: NDArray[np.int8]
    over: NDArray[np.bool_]
    seeds: Ints
    indices: Ints
    references: Tokens
    ends: NDArray[np.uint8]
    kind: tuple[Any, ...]  # id, form, words, budgets and endian of the episodes

    def __post_init__(self) -> None:
        for name in ARRAYS:
            array = np.array(getattr(self, name), order="C")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __reduce__(self) -> tuple[Any, ...]:
        return State, tuple(
            getattr(self, field.name) for field in fields(self)
        )  # so that unpickled arrays are read-only too

    def __len__(self) -> int:
        return len(self.lengths)


ARRAYS = tuple(field.name for field in fields(State) if field.name != "kind")


class Episodes:
    """``count`` episodes of a spec's split, played side by side.

    ``tokens`` (N, L) uint8, as the agent sees them; ``lengths`` (N,) int32; ``allowed`` (N,) int64, the row of the
    form's masks for the next token (after an end all are allowed, since none is read); ``rewards`` (N,) float64;
    ``terminated``, ``truncated`` and ``over`` (N,) bool; ``ends`` (9, N) uint8, 0 unless the episode ended in the last
    step; ``references`` (N, W) uint8, as of `References.packed`, with W = 0 for a task without hidden cases.
    """

    def __init__(self, spec: Spec, split: str, count: int, endian: str) -> None:
        self.spec, self.endian = spec, endian
        self.stream = Stream(spec, split)
        table = forms.table(spec.form, spec.words, endian, spec.rules.body_tokens)
        budget = spec.episode
        masks = table.masks.copy()
        masks[ENDED] = 1
        self.table = table._replace(masks=masks)
        self.limits = Limits(
            budget.max_tokens,
            budget.thought_tokens,
            may_run_out=spec.form == "free",
            little=endian == "little",
            by_cases=spec.reward == "cases",
            by_hidden=spec.reward == "hidden",
            by_use=spec.idle_use == "refused",
        )
        self._rules = tuple(self.table), tuple(self.limits)
        self.prompt_room = self.stream.prompt_room
        self.room = self.prompt_room + budget.max_tokens
        self.tokens = np.zeros((count, self.room), np.uint8)
        self.lengths = np.zeros(count, np.int32)
        self.cells = np.zeros((count, CELLS), np.int64)
        self.allowed = np.full(count, ENDED, np.int64)
        self.rewards = np.zeros(count)
        self.terminated, self.truncated = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        self.over = np.ones(count, np.bool_)
        self.ends = np.zeros((OUTCOME, count), np.uint8)
        self.seeds = np.full(count, -1, np.int64)  # -1: not seeded yet
        self.indices = np.zeros(count, np.int64)  # the next program of the stream of that seed
        self._queue = np.zeros((QUEUE, count, self.prompt_room), np.uint8)
        self._queued = np.zeros((QUEUE, count), np.int32)
        self._drawn = np.zeros(count, np.int64)  # prompts before this index have been queued
        has_hidden = any(part.family.inputs is not None for part in self.stream.specs)
        width = self.stream.reference_room + PACKED if has_hidden else 0
        self.references = np.zeros((count, width), np.uint8)
        self._waiting = np.zeros((QUEUE, count, width), np.uint8)
        self._work = np.concatenate([scratch(self.room + width), np.zeros(ROOM, np.int64)])
        self._room = np.zeros((3, self.room), np.uint8)  # a program with reversed digits, its body, a shorter body
        self._cells_of_use = np.zeros(IDLE_ROOM, np.int64)

    def seed(self, rows: Ints, seeds: ArrayLike) -> None:
        """Make rows (n,) take their prompts from the start of the streams of these seeds, (n,)."""
        self.seeds[rows] = [check_seed(seed) for seed in np.asarray(seeds).tolist()]
        self.indices[rows] = 0
        self._drawn[rows] = 0

    @property
    def masks(self) -> NDArray[np.int8]:
        """Which tokens may come next, (N, 65) int8; a new array at each call."""
        return self.table.masks.take(self.allowed, axis=0)

    def begin(self, rows: Ints, prompts: tuple[Tokens, NDArray[np.int32]] | None = None) -> None:
        """Begin episodes in rows (n,), with the next prompts of their streams or with prompts from `given`."""
        begun = 0
        while True:
            queue, queued, waiting = self._queue, self._queued, self._waiting
            indices, drawn = self.indices, self._drawn
            if prompts is not None:  # a queue of one prompt per row, without references
                queue, queued = np.zeros((1, *queue.shape[1:]), np.uint8), np.zeros((1, drawn.size), np.int32)
                waiting = np.zeros((1, *waiting.shape[1:]), np.uint8)
                queue[0, rows], queued[0, rows] = prompts
                indices, drawn = np.zeros_like(indices), np.ones_like(drawn)
            begun = begin(
                rows,
                begun,
                queue,
                queued,
                waiting,
                indices,
                drawn,
                self.tokens,
                self.lengths,
                self.references,
                self.cells,
                self.allowed,
                *self._rules,
            )
            if begun == rows.size:
                break
            self._refill()
        self.over[rows] = False

    def _refill(self) -> None:
        """Draw prompts ahead for every row whose queue is at least half empty."""
        missing = np.where(self.seeds >= 0, self.indices + QUEUE - self._drawn, 0)
        missing[missing < QUEUE // 2] = 0
        steps, rows = np.nonzero(np.arange(QUEUE)[:, None] < missing)
        indices = self._drawn[rows] + steps
        if self.references.shape[1]:
            programs, lengths, written = self.stream.problems(self.seeds[rows], indices)
            references = written.packed()
        else:
            programs, lengths = self.stream.prompts(self.seeds[rows], indices)
            references = np.zeros((rows.size, 0), np.uint8)
        enqueue(rows, indices, programs, lengths, references, self._queue, self._queued, self._waiting)
        self._drawn += missing

    def given(self, prompts: Sequence[Tokens]) -> tuple[Tokens, NDArray[np.int32]]:
        """Return prompts as a batch (n, P) with lengths (n,), for `begin`.

        Raises ValueError for a prompt that is too long, or that no completion of the form makes a well-formed program.
        """
        batch = np.zeros((len(prompts), self.prompt_room), np.uint8)
        for row, prompt in zip(batch, prompts, strict=True):
            if prompt.size > self.prompt_room:
                raise ValueError(
                    f"a prompt of {prompt.size} tokens: {self.spec.id} has room for at most {self.prompt_room}"
                )
            if prompt.size and prompt[-1] == op.PAD:
                raise ValueError(f"a prompt of {prompt.size} tokens ends with `<pad>`; give it without padding")
            check_prompt(prompt, self.spec.rules, self.endian)
            row[: prompt.size] = prompt
        return batch, np.array([prompt.size for prompt in prompts], np.int32)

    def step(self, actions: Ints, idle: NDArray[np.bool_]) -> int:
        """Take one token (N,) int64 in every row that is not idle; return how many episodes ended.

        The results are in ``rewards``, ``terminated``, ``truncated`` and ``ends``, new arrays at each call.
        """
        count = len(self.lengths)
        self.rewards = np.zeros(count)
        self.terminated, self.truncated = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        self.ends = np.zeros((OUTCOME, count), np.uint8)
        ended = step(
            actions,
            idle,
            self.tokens,
            self.lengths,
            self.references,
            self.cells,
            self.allowed,
            self.rewards,
            self.terminated,
            self.truncated,
            self.ends,
            *self._rules,
            self._room,
            self._cells_of_use,
            self._work,
        )
        self.over = self.terminated | self.truncated | (self.over & idle)
        return int(ended)

    def end_info(self, row: int) -> dict[str, Any]:
        """The info of an episode's last step, without the mask."""
        return {key: kind(self.ends[k, row]) for k, (key, kind) in enumerate(END_INFO.items())}

    def program(self, row: int) -> Tokens:
        """The tokens of an episode so far, (n,) uint8, with digits in big-endian order."""
        tokens = self.tokens[row, : self.lengths[row]]
        return reverse_digits(tokens) if self.endian == "little" else tokens.copy()

    def state(self, rows: Ints) -> State:
        """Return a snapshot of the episodes in rows (n,)."""
        parts: tuple[Any, ...] = (self.tokens, self.lengths, self.cells, self.allowed, self.masks, self.over)
        parts += (self.seeds, self.indices, self.references, self.ends.T)
        return State(*(part[rows] for part in parts), kind=self.kind)  # type: ignore[misc]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What a state must match to be restored here."""
        return (self.spec.id, self.spec.form, self.spec.words, self.spec.episode, self.endian)

    def restore(self, state: State, rows: Ints) -> None:
        """Resume the episodes of a state in rows (n,).

        Raises ValueError for a state of another spec or size, or one edited to episodes that cannot have been played
        here. Then nothing changes.
        """
        self._check(state, len(rows))
        self.tokens[rows], self.lengths[rows], self.cells[rows] = state.tokens, state.lengths, state.cells
        self.allowed[rows], self.over[rows] = state.allowed, state.over
        self.seeds[rows], self.indices[rows], self.ends[:, rows] = state.seeds, state.indices, state.ends.T
        self.references[rows] = state.references
        self._drawn[rows] = state.indices

    def _check(self, state: State, count: int) -> None:
        """Raise ValueError unless a state holds ``count`` episodes that may have been played here."""
        if not isinstance(state, State):
            raise ValueError(f"{type(state).__name__} cannot be restored: give what state() returned")
        kind = getattr(state, "kind", None)
        if not isinstance(kind, tuple) or kind != self.kind:
            raise ValueError(f"a state of {kind} cannot be restored to {self.kind}")
        for name in ARRAYS:
            given, own = getattr(state, name, None), self.ends.T if name == "ends" else getattr(self, name)
            if not isinstance(given, np.ndarray):
                raise ValueError(f"a state whose {name} are {type(given).__name__} cannot be restored: give an array")
            if (given.dtype, given.shape) != (own.dtype, (count, *own.shape[1:])):
                raise ValueError(
                    f"a state whose {name} are {given.dtype} of shape {given.shape} cannot be restored here: give "
                    f"{own.dtype} of shape {(count, *own.shape[1:])}"
                )
        spent, over, lengths, ends = state.cells[:, SPENT], state.over, state.lengths, state.ends.T
        prompt_lengths = lengths - spent
        past = np.arange(self.room) >= lengths[:, None]
        self._check_rows(
            lengths=(lengths >= 0) & (lengths <= self.room),
            cells=(spent >= 0) & (spent <= self.limits.max_tokens),
        )
        self._check_rows(
            lengths=(prompt_lengths >= 0) & (prompt_lengths <= self.prompt_room),
            tokens=(state.tokens < len(VOCABULARY)).all(1) & ~(past & (state.tokens != op.PAD)).any(1),
            seeds=np.where(over, -1, 0) <= state.seeds,
            indices=(state.indices >= 0) & (state.indices <= 2**62),
            ends=(ends[VERDICT] < len(Verdict)) & (ends[[SUCCESS, ILLEGAL, VISIBLE, HIDDEN, IDLE_USE]] <= 1).all(0),
            references=self._are_references(state.references),
        )
        cells, allowed = np.zeros_like(state.cells), np.zeros(count, np.int64)
        replay(state.tokens, prompt_lengths, lengths, cells, allowed, self.table, self.limits)
        # A running episode can still end within its budget, so its row has room for all it may write.
        ended = (cells[:, STATE] == DONE) | (cells[:, STATE] == DEAD) | (spent == self.limits.max_tokens)
        least = spent + self.table.finish[cells[:, STATE]] + cells[:, DEPTH]
        self._check_rows(
            tokens=over | ((allowed >= 0) & ~ended & (least <= self.limits.max_tokens)),
            cells=over | (cells == state.cells).all(1),
            allowed=state.allowed == np.where(over, ENDED, allowed),
        )
        self._check_rows(masks=(state.masks == self.table.masks[state.allowed]).all(1))

    def _are_references(self, rows: Tokens) -> NDArray[np.bool_]:
        right = np.ones(len(rows), np.bool_)
        if rows.shape[1]:
            are_references(rows, self._work, right)
        return right

    def _check_rows(self, **right: NDArray[np.bool_]) -> None:
        for name, rows in right.items():
            if not rows.all():
                row = int(rows.argmin())
                raise ValueError(f"a state that was edited cannot be restored: {name}, row {row}, fit no episode")


def as_prompts(prompt: Any, count: int) -> list[Tokens]:
    """Return ``options["prompt"]`` as one prompt for each of ``count`` episodes.

    It may be one prompt for all, as text for `cadmus_gym.assemble` or token ids (n,), or a list of them. Raises
    ValueError for anything else.
    """
    if isinstance(prompt, str):
        return [as_tokens(prompt)] * count
    if not isinstance(prompt, (list, tuple, np.ndarray)) or (isinstance(prompt, np.ndarray) and prompt.ndim == 0):
        raise ValueError(f"prompt {prompt!r}: give text or token ids (n,), or a list of them, one for each episode")
    if not any(isinstance(one, (str, list, tuple, np.ndarray)) for one in prompt):
        return [as_tokens(np.asarray(prompt))] * count
    prompts = [as_tokens(one) for one in prompt]
    if len(prompts) != count:
        raise ValueError(f"{len(prompts)} prompts for {count} episodes: give one for all, or one for each")
    return prompts
