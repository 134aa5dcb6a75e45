"""Find the shortest bodies of the functions of Cadmus-Induce-v0, and write the table of the package.

    python benchmarks/optima.py                                 writes cadmus_gym/tasks/synthesis/optima.npz
    python benchmarks/optima.py --limit 5 --output optima.npz   a smaller search, in seconds

The functions are those of `train` and `test` together: of one or two steps, without blocks. All bodies of up to
``limit`` tokens are tried (`cadmus_gym.tasks.synthesis.shortest`), but none as long as the longest drawn body. With the
default limit, every body in the table is thus proven to be a shortest one, and so is the shortest drawn body of every
function that the table does not have. This takes 14 core-minutes and 1.3 GB.

Every body found is run by the machine on all inputs. Then an independent search (`cadmus_gym.evaluation.enumeration`)
looks for still shorter bodies of ``check`` functions whose shortest body has at most ``check_length`` + 1 tokens.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from cadmus_gym import load_spec
from cadmus_gym.evaluation.enumeration import shortest
from cadmus_gym.files import check_output
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY, Ints, Tokens
from cadmus_gym.language.memory import scratch
from cadmus_gym.progress import countdown
from cadmus_gym.tasks.synthesis.hidden import ROOM, hash_outputs, run_probes
from cadmus_gym.tasks.synthesis.optima import FILE, WORDS, Optima, code_of, put_code, write_optima
from cadmus_gym.tasks.synthesis.shortest import Functions, find_shortest, functions_of, inputs_of, sums_of
from cadmus_gym.tasks.synthesis.space import space_of

ID = "Cadmus-Induce-v0"


@dataclass(frozen=True)
class Args:
    """Find the shortest bodies of the functions of Cadmus-Induce-v0."""

    limit: int = 9  # tokens of the longest bodies to try
    check: int = 20  # functions for the independent search, for each number of inputs
    check_length: int = 5  # tokens of its longest bodies
    output: Path = FILE


def run_on_machine(body: Tokens, inputs: Ints) -> Ints:
    """Return what the machine leaves when it runs a body with its `end` on inputs (R, arity), (R,).

    Raises ValueError if a run leaves anything but one value.
    """
    outputs = np.zeros(len(inputs), np.int64)
    if not run_probes(body, inputs, outputs, np.zeros(ROOM, np.int64), scratch(body.size)):
        raise ValueError(f"{[VOCABULARY[token] for token in body]} is no function")
    return outputs


def body_of(code: int) -> Tokens:
    """Return a body with its `end`."""
    body = np.full(16, op.END, np.uint8)
    return body[: put_code(code, body, 0) + 1]


def check_found(functions: Functions, codes: Ints, arity: int) -> None:
    """Run every body found on all inputs. Raises ValueError if one is wrong."""
    inputs, report = inputs_of(arity), countdown(f"bodies of {arity} inputs run by the machine")
    probes = min(64, len(inputs))
    found = np.flatnonzero(codes)
    for k, place in enumerate(found.tolist()):
        outputs = run_on_machine(body_of(codes[place]), inputs)
        same = (sums_of(outputs[None])[0] == functions.sums[place]).all()
        if not same or hash_outputs(np.int64(arity), outputs[:probes]) != functions.keys[place]:
            raise ValueError(f"{body_of(codes[place])} is not the function {functions.keys[place]}")
        report(k + 1, found.size)


def check_apart(arity: int, functions: Functions, lengths: Ints, codes: Ints, args: Args) -> tuple[int, int]:
    """Look for shorter bodies by another search; return (functions without any, functions for which it gave up).

    Raises ValueError if it finds one. It sees 16 cases, and gives up if it finds a body of another function that fits
    them.
    """
    inputs, rng = inputs_of(arity), np.random.default_rng(0)
    cases = inputs[np.linspace(0, len(inputs) - 1, 16).astype(int)]
    eligible = np.flatnonzero((codes > 0) & (lengths <= args.check_length + 1))
    proven = unclear = 0
    for place in rng.permutation(eligible)[: args.check].tolist():
        limit = int(lengths[place]) - 1
        outputs = run_on_machine(body_of(codes[place]), cases)
        pairs = [(case.tolist(), [int(output)]) for case, output in zip(cases, outputs, strict=True)]
        result = shortest(pairs, WORDS, range(10 ** max(1, limit - arity)), limit)
        if result.body is None and result.proven:
            proven += 1
            continue
        unclear += 1
        if result.body is not None:
            outputs = run_on_machine(np.append(result.body, np.uint8(op.END)), inputs)
            if (sums_of(outputs[None])[0] == functions.sums[place]).all():
                raise ValueError(f"{[VOCABULARY[token] for token in result.body]} is shorter than {lengths[place]}")
    return proven, unclear


def main(args: Args) -> None:
    check_output(args.output)
    spec = load_spec(ID)
    parameters = spec.split_parameters("train")
    assert spec.family.words is not None
    assert spec.family.pack is not None
    assert {word for word in spec.family.words(parameters) if not word.isdecimal()} == {*WORDS}
    space = space_of(spec.family.pack(parameters))
    keys, codes, tried = [], [], []
    for arity in (1, 2):
        functions, began = functions_of(space, arity), time.process_time()
        one = ~functions.several
        searched = functions.take(np.flatnonzero(one))
        limit = min(args.limit, int(searched.lengths.max()) - 1)
        report = countdown(f"bodies of up to {limit} tokens, {arity} inputs", percent=True)
        lengths, found, rejected = find_shortest(arity, limit, searched.sums, searched.lengths, report)
        seconds = time.process_time() - began
        check_found(searched, found, arity)
        proven, unclear = check_apart(arity, searched, lengths, found, args)
        print(
            f"{arity} inputs: {one.size} functions, {np.count_nonzero(~one)} of them not searched; all bodies of up to "
            f"{limit} tokens in {seconds:.0f} core-seconds\n"
            f"  shorter than drawn: {np.count_nonzero(found)}; right on the probes alone: {rejected}\n"
            f"  drawn, by length: {np.bincount(searched.lengths).tolist()}\n"
            f"  shortest, by length: {np.bincount(lengths).tolist()}\n"
            f"  tokens saved, by number: {np.bincount(searched.lengths - lengths).tolist()}\n"
            f"  proven to be shortest: {np.mean(lengths <= limit + 1):.2%}\n"
            f"  by another search: {proven} have no shorter body, {unclear} unclear",
            flush=True,
        )
        rows = np.flatnonzero(found)
        keys += [searched.keys[rows], functions.keys[~one]]
        codes += [found[rows], np.zeros(np.count_nonzero(~one), np.int64)]
        tried.append(limit)
    every = np.concatenate(keys)
    order = np.argsort(every)
    plains = [code_of(body[body > 0]) for body in space.plain_bodies(every[order])]
    write_optima(args.output, Optima(every[order], np.concatenate(codes)[order], np.array(plains), np.array(tried)))
    print(f"{every.size} rows written to {args.output}, {args.output.stat().st_size} bytes")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"optima.py: {error}")
