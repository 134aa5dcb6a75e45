"""Measure how fast the package is: the machine compared with C, first calls, streams, search, environments.

    python benchmarks/speed.py                                    everything, about a quarter of an hour on two cores
    python benchmarks/speed.py --sections machine --repeats 21

Prints Markdown tables and writes the same rows, with the command and the hardware, to benchmarks/results/speed.json.
Things that are compared take turns in one run, so a busy machine slows all of them. A ratio is the median over paired
repeats, shown with its minimum and maximum.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
import tyro
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.utils import performance
from numpy.typing import NDArray

import cadmus_gym as cg
from cadmus_gym.evaluation.enumeration import WORDS, Enumeration
from cadmus_gym.evaluation.search import search
from cadmus_gym.files import check_output
from cadmus_gym.streams.loading import SPECS
from cadmus_gym.training.provenance import recipe

HERE = Path(__file__).resolve().parent
ID = {name: token for token, name in enumerate(cg.VOCABULARY)}

Section: TypeAlias = Literal["machine", "first-call", "streams", "search", "dataset", "environments"]
Programs: TypeAlias = NDArray[np.uint8]  # (N, L), padded with 0
Integers: TypeAlias = NDArray[np.int64]
Judged: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int32]]  # verdicts (N,), passed (N,)
Row: TypeAlias = dict[str, Any]
VectorEnv: TypeAlias = gym.vector.VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class Args:
    """How fast the package is, measured."""

    sections: tuple[Section, ...] = ("machine", "first-call", "streams", "search", "dataset", "environments")
    count: int = 1_000_000  # programs per repeat; a quarter as many with cases, a hundredth with loops
    repeats: int = 9  # of each measurement; tables show the median
    steps: int = 400_000  # of all sub-environments together per repeat; a twentieth with Gymnasium's sync vector
    dataset: int = 80_000_000  # programs written and judged on all threads, once
    sizes: tuple[int, ...] = (1, 64, 1024, 4096)  # numbers of sub-environments; only the last for ids not in `detailed`
    detailed: tuple[str, ...] = ("Cadmus-Arith-v0", "Cadmus-Compare-v0", "Cadmus-Open-v0")
    seconds: int = 2  # duration of each of Gymnasium's own measurements
    ids: tuple[str, ...] = ()  # environments; none: all that are registered
    seed: int = 0  # of programs, streams and environments
    output: Path = HERE / "results" / "speed.json"


# ---------------------------------------------------------------------------------------------- the machine


class Pen:
    """Writes many programs at once, one token or one literal a row at a time."""

    def __init__(self, count: int) -> None:
        self.rows = np.zeros((count, 96), np.uint8)
        self.lengths = np.zeros(count, np.int64)

    def token(self, token: str | Integers, where: NDArray[np.bool_] | None = None) -> Pen:
        """Append a token, the same one or one for each row, to all rows or to those where it is requested."""
        tokens = np.broadcast_to(ID[token] if isinstance(token, str) else token, self.lengths.shape)
        here = np.arange(len(self.rows)) if where is None else np.flatnonzero(where)
        self.rows[here, self.lengths[here]] = tokens[here]
        self.lengths[here] += 1
        return self

    def words(self, text: str) -> Pen:
        """Append the same tokens to all rows."""
        for word in text.split():
            self.token(word)
        return self

    def number(self, values: Integers) -> Pen:
        """Append one literal a row, with its `neg` where it is below zero."""
        magnitudes = np.abs(values)
        for power in range(9, -1, -1):
            self.token(ID["0"] + magnitudes // 10**power % 10, (magnitudes >= 10**power) | (power == 0))
        return self.token("neg", values < 0)


def combined(operator: Integers, x: Integers, y: Integers) -> Integers:
    """Return x + y, x - y or x * y: operators 0, 1, 2, in the order of the tokens from `add` on."""
    return np.where(operator == 0, x + y, np.where(operator == 1, x - y, x * y))


def short_arithmetic(count: int, random: np.random.Generator) -> list[Pen]:
    """`12 7 add 19 eq end`: operands of 0 to 99, one of three operators; half of the answers are wrong."""
    x, y = random.integers(0, 100, (2, count))
    operator = random.integers(0, 3, count)
    answer = combined(operator, x, y) + random.integers(0, 2, count)
    pen = Pen(count).number(x).token(",").number(y).token(ID["add"] + operator)
    return [pen.number(answer).words("eq end")]


def with_cases(count: int, random: np.random.Generator) -> list[Pen]:
    """`within 9 case 3 to 1 1 do 3 mul 2 add end`: one to four cases; in half of the programs the first fails."""
    fourth = max(1, count // 4)
    pens = []
    for cases in range(1, 5):
        x = random.integers(0, 100, (cases, fourth))
        first, second = random.integers(0, 3, (2, fourth))
        factor, term = random.integers(2, 20, fourth), random.integers(0, 100, fourth)
        results = combined(second, combined(first, x, factor), term)
        results[0] += random.integers(0, 2, fourth)
        pen = Pen(fourth).words("within 9")
        for case in range(cases):
            pen.token("case").number(x[case]).token("to").number(results[case])
        pen.token("do").number(factor).token(ID["add"] + first).number(term).token(ID["add"] + second)
        pens.append(pen.token("end"))
    return pens


def long_loops(count: int, random: np.random.Generator) -> list[Pen]:
    """`times`, `begin` and `call`, with so many turns that some end just under the 1024 steps and some do not."""
    third = max(1, count // 3)
    turns = random.integers(330, 346, third)
    summed = Pen(third).words("0 ,").number(turns).words("times i add next")
    summed.number(turns * (turns - 1) // 2).words("eq end")
    counted = Pen(third).number(random.integers(246, 262, third)).words("begin dec dup not until not end")
    called = Pen(third).token("def").number(random.integers(2, 10, third)).token("mul")
    called.number(random.integers(10, 100, third)).words("mod ret 1 ,").number(random.integers(120, 132, third))
    return [summed, counted, called.words("times call next drop 1 end")]


def shuffled(pens: list[Pen], random: np.random.Generator) -> Programs:
    """Return the programs of several pens in random order, in rows no wider than the longest."""
    width = max(int(pen.lengths.max()) for pen in pens)
    return random.permutation(np.concatenate([pen.rows[:, :width] for pen in pens]))


def load_yardstick(folder: Path) -> Callable[[Programs], Judged] | None:
    """Build `yardstick.c`, for any processor of its kind (no -march), and return it; None without a compiler."""
    if shutil.which("cc") is None:
        return None
    library = folder / "yardstick.so"
    command = ["cc", "-O3", "-shared", "-fPIC", "-o", str(library), str(HERE / "yardstick.c")]
    subprocess.run(command, check=True)
    judge_batch = ctypes.CDLL(str(library)).judge_batch
    judge_batch.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]

    def judge(programs: Programs) -> Judged:
        verdicts, passed = np.empty(len(programs), np.uint8), np.empty(len(programs), np.int32)
        failed = judge_batch(programs.ctypes.data, *programs.shape, verdicts.ctypes.data, passed.ctypes.data)
        assert not failed, "the yardstick found no memory"
        return verdicts, passed

    return judge


def in_turns(calls: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, NDArray[np.float64]]:
    """Return what each call gives, (repeats,). A repeat makes all calls, every second one in reverse."""
    given = {name: np.empty(repeats) for name in calls}
    for repeat in range(repeats):
        for name in list(calls)[:: 1 if repeat % 2 == 0 else -1]:
            given[name][repeat] = calls[name]()
    return given


def seconds_of(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def spread(ratios: NDArray[np.float64]) -> Row:
    return {"median": float(np.median(ratios)), "min": float(ratios.min()), "max": float(ratios.max())}


def measure_machine(args: Args) -> list[Row]:
    """Programs judged a second through `run_batch`, and by the yardstick on one thread."""
    rows: list[Row] = []
    workloads = {
        "short arithmetic": (short_arithmetic, args.count),
        "with cases": (with_cases, args.count // 4),
        "loops at the step limit": (long_loops, args.count // 100),
    }
    with tempfile.TemporaryDirectory() as folder:
        yardstick = load_yardstick(Path(folder))
        for name, (write, count) in workloads.items():
            random = np.random.default_rng(args.seed)
            programs = shuffled(write(max(1, count), random), random)
            judges: dict[str, Callable[[Programs], Judged]] = {
                "one": partial(cg.run_batch, threads=1),
                "all": partial(cg.run_batch, threads=None),
            }
            if yardstick is not None:
                judges["C"] = yardstick
            verdicts, passed = cg.run_batch(programs)
            for judge in judges.values():
                again = judge(programs)
                assert np.array_equal(verdicts, again[0]), f"{name}: verdicts differ"
                assert np.array_equal(passed, again[1]), f"{name}: numbers of passed cases differ"
            calls = {judged: partial(seconds_of, judge, programs) for judged, judge in judges.items()}
            seconds = in_turns(calls, args.repeats)
            rate = {call: len(programs) / float(np.median(taken)) for call, taken in seconds.items()}
            rows.append(
                {
                    "programs": name,
                    "count": len(programs),
                    "tokens": float(np.count_nonzero(programs, axis=1).mean()),
                    "true": float(np.mean(verdicts == cg.Verdict.TRUE)),
                    "one thread / s": rate["one"],
                    "all threads / s": rate["all"],
                    "C, one thread / s": rate.get("C"),
                    "one thread / C": spread(seconds["C"] / seconds["one"]) if "C" in seconds else None,
                }
            )
    return rows


# ---------------------------------------------------------------------------------------------- first calls

FIRST_CALLS = """
import json, time
from time import perf_counter as now
start = now()
import cadmus_gym as cg
imported = now()
cg.run("12 7 add 19 eq end")
run = now()
cg.run_batch([cg.assemble("12 7 add 19 eq end")])
batch = now()
cg.Stream("Cadmus-Arith-v0").batch(0, 1)
stream = now()
for _ in range(1000):
    cg.run("12 7 add 19 eq end")
print(json.dumps([imported - start, run - imported, batch - run, stream - batch, (now() - stream) / 1000]))
"""


def measure_first_calls(args: Args) -> list[Row]:
    """Seconds of the first calls in a fresh process, with an empty kernel cache and with a warm one."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for cache, repeats in (("empty", 1), ("warm", min(3, args.repeats))):
            seconds = []
            for _ in range(repeats):
                command = [sys.executable, "-c", FIRST_CALLS]
                environment = {**os.environ, "CADMUS_GYM_CACHE": folder}
                answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
                seconds.append(json.loads(answer.stdout))
            names = ["import s", "first run s", "then first run_batch s", "then first stream s", "later run s"]
            rows.append({"kernel cache": cache, **dict(zip(names, np.median(seconds, axis=0), strict=True))})
    return rows


# -------------------------------------------------------------------------------------------------- streams


def measure_streams(args: Args, ids: list[str]) -> list[Row]:
    """Programs a second that each id's training stream writes on one thread."""
    rows: list[Row] = []
    for id in ids:
        stream = cg.Stream(id, split="train", seed=args.seed)
        stream.batch(0, 1, threads=1)  # compiles, or loads, the kernels
        batch = partial(stream.batch, threads=1)
        taken = [seconds_of(batch, repeat * args.count, args.count) for repeat in range(args.repeats)]
        rows.append({"id": id, "count": args.count, "programs / s": args.count / float(np.median(taken))})
    return rows


SEARCHES = {
    "one input": "case 3 to 79 case 5 to 1500 case 8 to -1234 case 1 to 77 do",
    "two inputs": "case 3 4 to 79 case 5 9 to 1500 case 8 1 to -1234 case 1 -7 to 77 do",
}


def measure_search(args: Args) -> list[Row]:
    """Candidates per core-second that an enumeration tries on four cases that no body of its lengths fits."""
    rows: list[Row] = []
    control = ("if", "else", "fi")
    straight = [word for word in WORDS if word not in (*control, "a!", "a@", "b!", "b@")]
    for inputs, prompt in SEARCHES.items():
        for name, words in (("straight lines", straight), ("with conditionals", [*straight, *control])):
            method = Enumeration(words, range(21), most_bytes=8 << 30)
            results = [search(method, prompt, candidates=args.count) for _ in range(args.repeats)]
            assert results[0].candidates == args.count, f"{inputs}, {name}: the search has ended"
            taken = float(np.median([result.cpu_seconds for result in results]))
            row = {"search": f"{inputs}, {name}", "words": len(words), "literals": 21, "candidates": args.count}
            rows.append({**row, "candidates / core-s": args.count / taken})
    return rows


def measure_dataset(args: Args) -> list[Row]:
    """Seconds to write many programs of Cadmus-Arith-v0 and judge each, in chunks that are not kept, on all threads."""
    stream, size = cg.Stream("Cadmus-Arith-v0", seed=args.seed), 1 << 20
    cg.run_batch(stream.batch(0, 1)[0])  # compiles, or loads, the kernels
    true = 0
    start, of_processor = time.perf_counter(), time.process_time()
    for first in range(0, args.dataset, size):
        programs, _ = stream.batch(first, min(size, args.dataset - first))
        true += int((cg.run_batch(programs)[0] == cg.Verdict.TRUE).sum())
    seconds, of_processor = time.perf_counter() - start, time.process_time() - of_processor
    assert true == args.dataset, f"only {true} of {args.dataset} programs are true"
    return [{"id": stream.id, "programs": true, "seconds": seconds, "core-seconds": of_processor}]


# --------------------------------------------------------------------------------------------- environments


def completion(prompt: Programs, form: str) -> list[int]:
    """Return the true completion of a prompt that asks for a value or a relation; [] for any other prompt."""
    stack = cg.run(np.append(prompt, np.uint8(ID["end"]))).stack
    if len(stack) != 1 or form == "words":
        return []
    if form == "relation":
        return [ID["end"]] if stack[0] == 1 else [ID["not"], ID["end"]]
    return [int(token) for token in cg.assemble(f"{stack[0]} eq end")]


def choose_actions(environment: VectorEnv, turns: int, form: str, seed: int) -> Integers:
    """Play true completions (random legal tokens where none is known) and return the actions, (turns, n).

    The seed and the actions give the same episodes again, so choosing costs nothing where steps are timed.
    """
    random = np.random.default_rng(seed)
    n = environment.num_envs
    actions = np.empty((turns, n), np.int64)
    plans: list[list[int]] = [[] for _ in range(n)]
    observations, infos = environment.reset(seed=seed)
    fresh, done = np.ones(n, np.bool_), np.zeros(n, np.bool_)
    for turn in range(turns):
        for k in np.flatnonzero(fresh):
            plans[k] = completion(observations[k][observations[k] != ID["<pad>"]], form)[::-1]
        legal = (infos["action_mask"] * random.random((n, len(ID)))).argmax(1)
        actions[turn] = [plan.pop() if plan else token for plan, token in zip(plans, legal, strict=True)]
        observations, _, terminated, truncated, infos = environment.step(actions[turn])
        fresh, done = done, terminated | truncated  # an environment done before this step has a new prompt after it
    return actions


def play(environment: VectorEnv, actions: Integers, seed: int) -> tuple[int, int, float]:
    """Return the number of steps, of episodes that ended, and the share of those with reward 1.

    The turn in which a finished episode is reset is no step, as in Gymnasium's own measurements.
    """
    environment.reset(seed=seed)
    done = np.zeros(environment.num_envs, np.bool_)
    steps = episodes = rewarded = 0
    for row in actions:
        steps += int((~done).sum())
        _, rewards, terminated, truncated, _ = environment.step(row)
        done = terminated | truncated
        episodes += int(done.sum())
        rewarded += int((rewards[done] == 1).sum())
    return steps, episodes, rewarded / max(1, episodes)


def steps_a_second(environment: VectorEnv, actions: Integers, seed: int, steps: int) -> float:
    environment.reset(seed=seed)
    start = time.perf_counter()
    for row in actions:
        environment.step(row)
    return steps / (time.perf_counter() - start)


def measure_vector(args: Args, id: str, n: int) -> Row:
    """Steps a second of the native vector environment, of Gymnasium's sync one, and of CartPole, in turns."""
    native = gym.make_vec(id, num_envs=n, vectorization_mode="vector_entry_point")
    sync = gym.make_vec(id, num_envs=n, vectorization_mode="sync")
    cartpole = CartPoleVectorEnv(n)
    turns = min(max(400, args.steps // n), 5000)  # more than the prompts drawn ahead are enough for
    actions = choose_actions(native, turns, cg.load_spec(id).form, args.seed)
    few = actions[: max(10, args.steps // (20 * n))]
    pushes = np.random.default_rng(args.seed).integers(0, 2, (turns, n))
    games = {"native": (native, actions), "sync": (sync, few), "CartPole": (cartpole, pushes)}
    played = {name: play(environment, moves, args.seed) for name, (environment, moves) in games.items()}
    assert played["sync"] == play(native, few, args.seed), "native and sync vectorisation played apart"
    calls = {name: partial(steps_a_second, *games[name], args.seed, played[name][0]) for name in games}
    rates = in_turns(calls, args.repeats)
    for environment, _ in games.values():
        environment.close()
    return {
        "id": id,
        "sub-environments": n,
        "episodes": played["native"][1],
        "true": played["native"][2],
        **{f"{name}, steps / s": float(np.median(rate)) for name, rate in rates.items()},
        "native / sync": spread(rates["native"] / rates["sync"]),
        "native / CartPole": spread(rates["native"] / rates["CartPole"]),
    }


def sizes_of(args: Args, id: str) -> tuple[int, ...]:
    return args.sizes if id in args.detailed else args.sizes[-1:]


def measure_scalar(args: Args, id: str) -> Row:
    """Gymnasium's own measurements of a single environment, each on its own, in events a second."""
    row: Row = {"id": id}
    with gym.make(id) as environment:
        environment.action_space.seed(args.seed)
        row["steps / s"] = performance.benchmark_step(environment, args.seconds, args.seed)
    row["make and reset / s"] = performance.benchmark_init(lambda: gym.make(id), args.seconds, args.seed)
    for mode in ("ansi", "rgb_array"):
        with gym.make(id, render_mode=mode) as environment:
            environment.reset(seed=args.seed)
            row[f"{mode} / s"] = performance.benchmark_render(environment, args.seconds)
    return row


# --------------------------------------------------------------------------------------------------- output


def cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return f"{cell(value['median'])} ({cell(value['min'])} to {cell(value['max'])})"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_table(title: str, note: str, rows: list[Row]) -> None:
    print(f"\n## {title}\n\n{note}\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("| " + " | ".join("---" for _ in rows[0]) + " |")
    for row in rows:
        print("| " + " | ".join(cell(value) for value in row.values()) + " |", flush=True)


def main(args: Args) -> None:
    for id in args.ids:
        cg.load_spec(id)
    check_output(args.output)
    results: dict[str, Any] = {"recipe": recipe(args)}
    hardware = results["recipe"]["hardware"]
    print(f"commit {results['recipe']['commit']}, {hardware['cpu']}, {hardware['cores']} cores")

    def report(title: str, note: str, rows: list[Row]) -> None:
        if rows:
            results[title] = rows
            print_table(title, note, rows)

    if "machine" in args.sections:
        note = "Programs judged a second. The C yardstick is built with `cc -O3`, without -march."
        report("machine", note, measure_machine(args))
    if "first-call" in args.sections:
        report("first-call", "Seconds in a fresh process. Compiling is paid once.", measure_first_calls(args))
    ids = list(args.ids or SPECS)
    if not ids and {"streams", "environments"} & set(args.sections):
        print("\nstreams, environments: no id is registered, nothing to measure")
    if "streams" in args.sections:
        report("streams", "Programs written a second, one thread.", measure_streams(args, ids))
    if "search" in args.sections:
        report("search", "Candidates per core-second of an enumeration on four cases.", measure_search(args))
    if "dataset" in args.sections:
        report("dataset", "Programs written and judged in chunks, all threads.", measure_dataset(args))
    if "environments" in args.sections:
        note = (
            "Gymnasium's own measurements of the single environment. They sample all 65 tokens, most of which are\n"
            "illegal and end the episode, so a step here is mostly a reset."
        )
        report("environments, single", note, [measure_scalar(args, id) for id in ids])
        note = (
            "Steps a second of running episodes. The actions, true completions, were chosen beforehand, for all three\n"
            "alike, so choosing is in no figure. Sync: Gymnasium's own vectorisation of the same id."
        )
        report("environments, vector", note, [measure_vector(args, id, n) for id in ids for n in sizes_of(args, id)])

    args.output.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {args.output}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"speed.py: {error}")
