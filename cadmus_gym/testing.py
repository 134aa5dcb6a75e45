"""Checks that every environment of the package passes, for your own: ``check_spec("my.toml")``.

A check that fails raises AssertionError with the id, the split and an example.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gymnasium.utils.env_checker import check_env

from cadmus_gym.environments.single import CadmusEnv
from cadmus_gym.environments.vector import CadmusVectorEnv
from cadmus_gym.evaluation.baselines import fixed_policies, play, random_legal
from cadmus_gym.evaluation.constructs import CEILINGS as NEEDED
from cadmus_gym.evaluation.constructs import answers_without, meaning_of, named_of
from cadmus_gym.evaluation.loopholes import find_loopholes
from cadmus_gym.evaluation.truth import judge_completions, prompts_of
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import Automata
from cadmus_gym.language.isa import ID, Tokens
from cadmus_gym.language.machine import run, run_batch
from cadmus_gym.language.notation import disassemble
from cadmus_gym.language.verdicts import TRUE, Verdict
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.problems import Reader, certain
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream
from cadmus_gym.tasks.ablations import answers
from cadmus_gym.tasks.synthesis.hidden import generalise, twin

CEILINGS = {  # truth rates without solving a problem, by the form of a family
    "value": 0.05,
    "relation": 0.55,
    "words": 0.05,
    "argument": 0.05,
}
GIVEN = 0.12  # instead, if a prompt gives the beginning of the program
SEED = 7


def check_spec(spec: str | Path | Spec, count: int = 2000) -> None:
    """Check an environment: a registered id, a TOML file or a spec, with ``count`` programs of every split.

    Checks that all programs are true and of the declared form, that a stream does not depend on how it is read, that
    splits with the same parameters share no problem, that shortcuts earn nothing, that references are true on hidden
    cases, and that the environments follow Gymnasium's API and agree with each other. Takes seconds for a compiled
    family and up to a minute for one in plain Python. A line on stderr names each check as it begins.

    Raises AssertionError if a check fails, and ValueError for a mistake in the file.
    """
    spec = load_spec(spec)
    for number, check in enumerate(CHECKS, 1):
        what = check.__name__.removeprefix("check_")
        print(f"{spec.name}: check {number} of {len(CHECKS)}, {what}", file=sys.stderr, flush=True)
        check(spec, count)


def check_programs(spec: Spec, count: int) -> None:
    """Every program is true: a prompt, a completion of the form within the budgets, one `end`, then padding."""
    for split in spec.splits:
        stream = Stream(spec, split, SEED)
        programs, lengths = stream.batch(0, count)
        verdicts, _ = run_batch(programs)
        for row in np.flatnonzero(verdicts != TRUE)[:1]:
            raise AssertionError(_said(spec, split, programs[row], f"is {Verdict(verdicts[row]).name}"))
        prompts, same = stream.prompts(np.full(count, SEED), np.arange(count))
        assert np.array_equal(same, lengths), f"{spec.id} {split}: prompts and programs differ in prompt lengths"
        automata = Automata(spec.rules, prompts, lengths)
        whole = (programs != 0).sum(axis=1)
        ends = (programs == op.END).argmax(axis=1) + 1
        for row in range(count):
            program = programs[row]
            if ends[row] != whole[row]:
                raise AssertionError(_said(spec, split, program, "has something after its first `end`"))
            if not np.array_equal(program[: lengths[row]], prompts[row, : lengths[row]]):
                raise AssertionError(_said(spec, split, program, f"does not begin with {disassemble(prompts[row])!r}"))
            last = int(program[lengths[row] - 1])
            if op.ZERO <= last <= op.NINE:
                raise AssertionError(_said(spec, split, program, "has a prompt that ends inside a literal"))
        for step in range(int((whole - lengths).max())):
            going = np.flatnonzero(~automata.done)
            tokens = np.zeros(count, np.int64)
            tokens[going] = programs[going, lengths[going] + step]
            legal = automata.mask()[going, tokens[going]]
            for row in going[~legal][:1]:
                raise AssertionError(_said(spec, split, programs[row], f"is not of form {spec.form!r}"))
            automata.push(tokens)
        assert automata.done.all(), f"{spec.id} {split}: a completion has no `end`"


def check_purity(spec: Spec, count: int) -> None:
    """A program is a function of (digest, split, seed, index), not of the range or the number of threads."""
    for split in spec.splits:
        programs, lengths = Stream(spec, split, SEED).batch(0, count)
        again, of_again = Stream(spec, split, SEED).batch(count // 2, count - count // 2, threads=1)
        assert np.array_equal(programs[count // 2 :], again), f"{spec.id} {split}: a range differs from the whole"
        assert np.array_equal(lengths[count // 2 :], of_again), f"{spec.id} {split}: lengths of a range differ"
        order = np.random.default_rng(0).permutation(count)[:200]
        some, _ = Stream(spec, split).gather(np.full(order.size, SEED), order)
        assert np.array_equal(programs[order], some), f"{spec.id} {split}: single programs differ from their range"


def check_splits(spec: Spec, count: int) -> None:
    """Splits with the same parameters share no problem, and every split recognizes its own problems."""
    for part, _ in spec.parts:
        keys: dict[str, set[int]] = {}
        for split in part.splits:
            stream, pairs = Stream(part, split, SEED), (np.full(count, SEED), np.arange(count))
            keys[split] = set(stream.keys(*pairs).tolist())
            if part.family.written and not certain(part):
                continue  # a prompt alone does not tell the problem, and a family in plain Python reads no program
            reader = Reader(part, split)
            programs, lengths = stream.gather(*pairs) if part.family.written else stream.prompts(*pairs)
            sizes = (programs != op.PAD).sum(1) if part.family.written else lengths
            for program, size in zip(programs, sizes, strict=True):
                problem = reader.read(program[:size])
                if problem is None or not problem.kept or problem.key not in keys[split]:
                    raise AssertionError(
                        _said(part, split, program[:size], "is not recognized as a problem of the split")
                    )
        for one in keys:
            for other in keys:
                alike = part.split_parameters(one) == part.split_parameters(other)
                assert one == other or not alike or not keys[one] & keys[other], (
                    f"{part.id}: splits {one} and {other} share a problem"
                )


def check_probabilities(spec: Spec, count: int) -> None:
    """Every program has a finite log-probability, if the task defines probabilities."""
    for split in spec.splits:
        stream = Stream(spec, split, SEED)
        programs, _ = stream.batch(0, min(count, 500))
        scores = stream.score(programs, budget=10_000, samples=10_000).log_prob
        for row in np.flatnonzero(np.isinf(scores) | (scores > 0))[:1]:
            raise AssertionError(_said(spec, split, programs[row], f"has log-probability {scores[row]}"))


def check_shortcuts(spec: Spec, count: int) -> None:
    """Fixed completions, copies of the prompt and random legal tokens stay below the ceiling of the form, the named
    construct is needed, and no completion of the stream stays true when the problem changes."""
    check_constructs(spec, count)
    if spec.form == "free":
        return
    for split in spec.splits:
        prompts, lengths = prompts_of(spec, split, count)
        ceiling = ceiling_of(spec, split)
        policies = fixed_policies(spec, split)
        given = [policy(row[:size]) for row, size in zip(prompts, lengths, strict=True) for policy in policies.values()]
        true = play(spec, split, given, samples=len(policies)).reshape(count, -1)
        for name, rate in zip(policies, true.mean(0), strict=True):
            assert rate <= ceiling, (
                f"{spec.id} {split}: {name} is true for {rate:.1%} of the prompts; allowed: {ceiling:.1%}"
            )
        programs, of_programs = random_legal(spec, split, count)
        rate = judge_completions(spec, split, 0, programs, of_programs).truth_rate
        assert rate <= ceiling, (
            f"{spec.id} {split}: random tokens are true for {rate:.1%} of the prompts; allowed: {ceiling:.1%}"
        )
        programs, lengths = Stream(spec, split, SEED).batch(0, min(count, 300))
        for row in np.flatnonzero(find_loopholes(programs, lengths))[:1]:
            raise AssertionError(_said(spec, split, programs[row], "stays true when its problem changes"))


def check_constructs(spec: Spec, count: int) -> None:
    """Few prompts can be answered without the construct that the environment is named after (see
    `cadmus_gym.evaluation.constructs`)."""
    for part, _ in spec.parts:
        if part.family.written:
            continue
        most = NEEDED[part.family.form]
        for split in part.splits:
            prompts = prompts_of(part, split, count)
            right = answers(*prompts)[0]
            for name in named_of(part):
                share = (answers_without(name, *prompts) == right).mean()
                what = f"{share:.1%} of the prompts are answered right with {name!r} ({meaning_of(name)})"
                assert share <= most, f"{part.id} {split}: {what}; allowed: {most:.0%}"


def ceiling_of(spec: Spec, split: str) -> float:
    """Return the truth rate allowed without solving a problem; for a mixture, the mean over its parts."""
    parts = []
    for part, weight in spec.parts:
        if split in part.splits:
            given = getattr(part.split_parameters(split), "given", {"0": 1}).keys() != {"0"}
            parts.append((GIVEN if given else CEILINGS[part.family.form], weight))
    return sum(ceiling * weight for ceiling, weight in parts) / sum(weight for _, weight in parts)


def check_hidden(spec: Spec, count: int) -> None:
    """Every reference is true on hidden cases, if the task has them, and so is its twin."""
    for split in spec.splits:
        stream, pairs = Stream(spec, split, SEED), (np.full(count, SEED), np.arange(count))
        if not stream.reference_room:
            continue
        references, programs = stream.references(*pairs), stream.gather(*pairs)[0]
        general, cases = generalise(programs, np.arange(count), references)
        has = references.ranges[:, 1] >= references.ranges[:, 0]
        for row in np.flatnonzero((general == 0) | (has != (cases > 0)))[:1]:
            raise AssertionError(_said(spec, split, programs[row], f"fails on some of its {cases[row]} hidden cases"))
        for row in np.flatnonzero(has)[:100]:
            program, body = (tokens[tokens != op.PAD] for tokens in (programs[row], references.bodies[row]))
            low, high = references.ranges[row].tolist()
            text = twin(program, body, int(references.keys[row]), (low, high))
            assert run(text).true, f"{spec.id} {split}: the twin {text!r} is not true"


def check_environments(spec: Spec, count: int) -> None:
    """`check_env` passes, and the vector environment equals single ones under legal and illegal actions."""
    check_env(CadmusEnv(spec), skip_render_check=True)
    size = 4
    vector, singles = CadmusVectorEnv(size, spec), [CadmusEnv(spec) for _ in range(size)]
    observations, _ = vector.reset(seed=SEED)
    starts = [single.reset(seed=SEED + k)[0] for k, single in enumerate(singles)]
    assert np.array_equal(observations, starts), f"{spec.id}: vector and single environments start differently"
    rng, over = np.random.default_rng(SEED), np.zeros(size, np.bool_)
    for turn in range(min(count, 300)):
        actions = rng.integers(0, len(ID), size)
        if turn % 2:
            actions = (rng.random((size, len(ID))) * vector.action_masks()).argmax(axis=1)
        observations, rewards, terminated, truncated, _ = vector.step(actions)
        for k, single in enumerate(singles):
            expected = (single.reset()[0], 0.0, False, False) if over[k] else single.step(int(actions[k]))[:4]
            assert np.array_equal(observations[k], expected[0]), f"{spec.id}: turn {turn}: observations differ"
            assert expected[1:] == (rewards[k], terminated[k], truncated[k]), (
                f"{spec.id}: turn {turn}: rewards or ends differ"
            )
        over = terminated | truncated


CHECKS: tuple[Callable[[Spec, int], None], ...] = (
    check_programs,
    check_purity,
    check_splits,
    check_probabilities,
    check_shortcuts,
    check_hidden,
    check_environments,
)


def _said(spec: Spec, split: str, program: Tokens, fault: str) -> str:
    return f"{spec.id} {split}: {disassemble(program[program != 0])!r} {fault}"
