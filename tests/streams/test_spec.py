"""Specs: what a file may say, what is said about its mistakes, and what a digest covers."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import cadmus_gym as cg
from cadmus_gym.streams.spec import FOLDER

ROOT = Path(cg.__file__).parents[1]
IDS = list(cg.SPECS)

# Ids are promises: whoever changes one of these gives the environment a new version instead. For each id and split the
# digest and the first three programs; `PYTHONPATH=tests python tests/streams/test_spec.py` prints them as they are now.
GOLDEN: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("golden.json").read_text())


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a TOML file and return its path."""

    def put(text: str | bytes, name: str = "my.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


@pytest.fixture
def registry() -> Iterator[None]:
    """Forget afterwards what a test registers."""
    specs, known = dict(cg.SPECS), dict(gymnasium.registry)
    yield
    cg.SPECS.clear()
    cg.SPECS.update(specs)
    gymnasium.registry.clear()
    gymnasium.registry.update(known)


# Mistakes. Each is a file, and what the message must say besides the file's name.

ARITH = 'id = "My-Arith-v0"\ntask = "arith"\n'
COMPARE = 'id = "My-Compare-v0"\ntask = "compare"\n'
TRAIN = "\n[splits.train]\n"


def written(table: str, line: str, task: str = ARITH) -> str:
    """A file with a line in a table."""
    return f"{task}[{table}]\n{line}" + ("" if table.startswith("splits") else TRAIN)


def at(table: str, line: str, *parts: str, task: str = ARITH) -> tuple[str, list[str]]:
    """A mistake in a table, which the message names too."""
    return written(table, line, task), [f"[{table}]", *parts]


def arith(line: str, *parts: str) -> tuple[str, list[str]]:
    return at("parameters", line, *parts)


def compare(line: str, *parts: str) -> tuple[str, list[str]]:
    return at("parameters", line, *parts, task=COMPARE)


def top(line: str, *parts: str) -> tuple[str, list[str]]:
    return f"{line}\n{ARITH}{TRAIN}", list(parts)


def parameters(task: str) -> Any:
    """A mistake in the parameters of a task: the line, and what the message must say."""

    def mistake(line: str, *parts: str) -> tuple[str, list[str]]:
        return at("parameters", line, *parts, task=f'id = "My-v0"\ntask = "{task}"\n')

    return mistake


UNKNOWN_KEYS = {
    "top": top("colour = 1", "'colour'", "known:", "task", "splits"),
    "top, near": top('rewards = "truth"', "'rewards'", "did you mean 'reward'", "known:"),
    "parameters": arith("operandz = [0, 9]", "'operandz'", "did you mean 'operands'", "limit"),
    "parameters of another task": arith("lengths = { 5 = 1 }", "'lengths'", "operands"),
    "operators": arith("operators = { div = 1 }", "operators", "'div'", "add, sub, mul"),
    "operations": arith("operations = { 8 = 1 }", "operations", "'8'", "7"),
    "relations": compare("relations = { add = 1 }", "relations", "'add'", "eq, ne, lt, le, gt, ge"),
    "thoughts": at("thoughts", "stiles = 1", "'stiles'", "style"),
    "episode": at("episode", "tokens = 1", "'tokens'", "max_tokens"),
    "split": at("splits.train", "shares = [0, 1]", "'shares'", "share", "parameters"),
    "split's parameters": at("splits.train.parameters", "operandz = [0, 9]", "'operandz'", "operands"),
    "split's operators": at(
        "splits.train.parameters", "operators = { div = 1 }", "operators", "'div'", "add, sub, mul"
    ),
}

WRONG_TYPES = {
    "id": (f'id = 5\ntask = "arith"\n{TRAIN}', ["id", "5", "a text"]),
    "task": (f'id = "My-v0"\ntask = ["arith"]\n{TRAIN}', ["task", "arith", "a text"]),
    "description": top("description = 5", "description", "5", "a text"),
    "form": top("form = 5", "form", "5", "a text"),
    "words": top('form = "words"\nwords = "dup"', "words", "'dup'", "a list"),
    "one of words": top('form = "words"\nwords = ["dup", 5]', "words", "5", "a text"),
    "reward": top("reward = true", "reward", "True", "a text"),
    "parameters": top("parameters = 5", "parameters", "5", "a table"),
    "thoughts": top('thoughts = "none"', "[thoughts]", "'none'", "a table"),
    "thoughts.share": at("thoughts", 'share = "all"', "share", "'all'", "a number"),
    "thoughts.style": at("thoughts", "style = 1", "style", "1", "a text"),
    "thoughts.limit": at("thoughts", "limit = 1.5", "limit", "1.5", "a whole number"),
    "a truth value for a number": at("thoughts", "limit = true", "limit", "True", "a whole number"),
    "episode": top("episode = 64", "[episode]", "64", "a table"),
    "max_tokens": at("episode", 'max_tokens = "64"', "max_tokens", "'64'", "a whole number"),
    "thought_tokens": at("episode", "thought_tokens = 4.0", "thought_tokens", "4.0", "a whole number"),
    "splits": (f"splits = 5\n{ARITH}", ["splits", "5", "a table"]),
    "split": (f"{ARITH}[splits]\ntrain = 5", ["[splits.train]", "5", "a table"]),
    "share": at("splits.train", "share = 0.5", "share", "0.5", "a list"),
    "share of one": at("splits.train", "share = [0.5]", "share", "[0.5]", "a list of 2 numbers"),
    "share of three": at("splits.train", "share = [0, 0.5, 1]", "share", "a list of 2 numbers"),
    "share of texts": at("splits.train", 'share = ["0", "1"]', "share", "'0'", "a number"),
    "split's description": at("splits.train", "description = 5", "description", "5", "a text"),
    "split's parameters": at("splits.train", "parameters = 5", "parameters", "5", "a table"),
    "split's operands": at("splits.train.parameters", "operands = 5", "operands", "5", "a list"),
    "split's weight": at("splits.train.parameters.operators", 'add = "x"', "add", "'x'", "a whole number"),
    "operands": arith("operands = 5", "operands", "5", "a list"),
    "operands of one": arith("operands = [5]", "operands", "[5]", "a list of 2 whole numbers"),
    "operands of floats": arith("operands = [0.0, 9.0]", "operands", "0.0", "a whole number"),
    "operators": arith('operators = ["add"]', "operators", "['add']", "a table"),
    "a weight": at("parameters.operators", "add = 1.5", "add", "1.5", "a whole number"),
    "operations": arith("operations = 2", "operations", "2", "a table"),
    "limit": arith("limit = 9999.0", "limit", "9999.0", "a whole number"),
    "lengths": compare("lengths = 5", "lengths", "5", "a table"),
    "relations": compare('relations = "eq"', "relations", "'eq'", "a table"),
    "ties": compare('ties = "few"', "ties", "'few'", "a number"),
    "order": compare("order = true", "order", "True", "a table"),
    "equality": at("parameters.equality", "digit = 1.5", "digit", "1.5", "a whole number", task=COMPARE),
    "outer": compare("outer = [0]", "outer", "[0]", "a number"),
    "reserved": compare("reserved = 97", "reserved", "97", "a list"),
    "reserved_from": compare('reserved_from = "10000"', "reserved_from", "'10000'", "a whole number"),
    "pool": compare("pool = 1", "pool", "1", "a text"),
}

MISSING = {
    "all": ("", ["'id'", "missing"]),
    "id": ('task = "arith"' + TRAIN, ["'id'", "missing"]),
    "task and mixture": ('id = "My-v0"' + TRAIN, ["task = ''", "mixture = {}", "give one"]),
    "splits": (ARITH, ["splits", "at least one"]),
    "a split": (ARITH + "[splits]", ["splits", "at least one"]),
}

UNKNOWN_NAMES = {
    "task": (f'id = "My-v0"\ntask = "maths"\n{TRAIN}', ["task", "'maths'", "arith, compare", "module:attribute"]),
    "module": (f'id = "My-v0"\ntask = "nowhere:FAMILY"\n{TRAIN}', ["task", "nowhere"]),
    "module within the package": (f'id = "My-v0"\ntask = ".arith:ARITH"\n{TRAIN}', ["task", "'.arith:ARITH'"]),
    "attribute": (f'id = "My-v0"\ntask = "json:FAMILY"\n{TRAIN}', ["task", "json", "FAMILY"]),
    "attribute of another type": (f'id = "My-v0"\ntask = "json:dumps"\n{TRAIN}', ["task", "Family", "function"]),
    "form": top('form = "any"', "form", "'any'", "value, relation, answer, words, free"),
    "reward": top('reward = "money"', "reward", "'money'", "truth, cases, hidden"),
    "form of other answers": top(
        'form = "relation"', "form", "'relation'", "task 'arith'", "value, answer, words, free"
    ),
    "style": at("thoughts", 'style = "loud"', "style", "'loud'", "none, values, products, digits, trace, stack"),
    "pool": compare('pool = "all"', "pool", "'all'", "open, reserved"),
}

RANGES = {
    "operands reversed": arith("operands = [9, 0]", "operands", "[9, 0]", "[lowest, highest]"),
    "operands too low": arith("operands = [-2147483648, 0]", "operands", "-2147483647"),
    "operands too high": arith("operands = [0, 2147483648]", "operands", "2147483647"),
    "no operators": arith("operators = {}", "operators", "at least one of", "add"),
    "operator weight 0": arith("operators = { add = 0 }", "operators", "add = 0", "1 to 1000000"),
    "operator weight high": arith("operators = { add = 1000001 }", "operators", "1 to 1000000"),
    "operator weight huge": arith(f"operators = {{ add = {10**30} }}", "operators", "1000000"),
    "no operations": arith("operations = {}", "operations", "at least one of"),
    "operations 0": arith("operations = { 0 = 1 }", "operations", "'0'", "1, 2"),
    "operations weight": arith("operations = { 1 = -1 }", "operations", "1 = -1", "1 to 1000000"),
    "limit below the operands": arith("limit = 98", "limit", "98", "99"),
    "limit too high": arith("limit = 2147483648", "limit", "2147483647"),
    "limit huge": arith(f"limit = {10**30}", "limit", "2147483647"),
    "limit of products": arith("operators = { mul = 1 }\nlimit = 9801", "limit", "9801", "970299", "add and sub"),
    "limit of sums": arith("operators = { add = 1 }\nlimit = 296", "limit", "296", "297"),
    "no lengths": compare("lengths = {}", "lengths", "at least one of", "1-9"),
    "unknown length": compare("lengths = { 10 = 1 }", "lengths", "'10'", "1-9"),
    "lengths reversed": compare("lengths = { 2-1 = 1 }", "lengths", "'2-1'", "1-2"),
    "a length twice": compare("lengths = { 2 = 1, 1-3 = 1 }", "lengths", "2, 1-3", "2 digits"),
    "length weight": compare("lengths = { 5 = 0 }", "lengths", "5 = 0", "1000000"),
    "no relations": compare("relations = {}", "relations", "at least one of", "eq"),
    "relation weight": compare("relations = { eq = 0 }", "relations", "eq = 0", "1000000"),
    "ties below 0": compare("ties = -0.1", "ties", "-0.1", "0 to 1"),
    "ties above 1": compare("ties = 1.1", "ties", "1.1", "0 to 1"),
    "ties no number": compare("ties = nan", "ties", "nan", "0 to 1"),
    "outer above 1": compare("outer = inf", "outer", "inf", "0 to 1"),
    "no pairs under order": compare("order = {}", "order", "at least one of", "digit"),
    "unknown pairs": compare("equality = { tie = 1 }", "equality", "'tie'", "digit, swap, tail, near, length"),
    "swap of short numbers": compare(
        "lengths = { 1-2 = 1, 3 = 1 }\norder = { digit = 1 }", "equality", "swap", "4 digits", "leave it out"
    ),
    "near in one digit": compare(
        "lengths = { 1 = 1 }\nrelations = { lt = 1 }\norder = { near = 1 }", "order", "near", "2 digits"
    ),
    "length in one length": compare("lengths = { 5 = 1 }", "equality", "length", "two lengths"),
    "reserved modulus 1": compare("reserved = [1, 0]", "reserved", "[1, 0]", "modulus"),
    "reserved rest": compare("reserved = [97, 97]", "reserved", "[97, 97]", "rest < modulus"),
    "reserved rest below 0": compare("reserved = [97, -1]", "reserved", "[97, -1]"),
    "reserved modulus too high": compare("reserved = [1000001, 0]", "reserved", "1000000"),
    "reserved_from huge": compare(f"reserved_from = {10**30}", "reserved_from"),
    "nothing reserved": compare('lengths = { 3 = 1, 5 = 1 }\npool = "reserved"', "lengths", "3", "'reserved'"),
    "thoughts.share": at("thoughts", "share = 1.5", "share", "1.5", "0 to 1"),
    "thoughts.share no number": at("thoughts", "share = nan", "share", "nan", "0 to 1"),
    "thoughts.limit": at("thoughts", "limit = -1", "limit", "-1", "0 to 4096"),
    "thoughts.limit for no thought": at(
        "thoughts", 'share = 0.1\nstyle = "values"\nlimit = 2', "[thoughts]", "limit = 2", "at least 3", "share = 0"
    ),
    "max_tokens 0": at("episode", "max_tokens = 0", "max_tokens", "1 to 4096"),
    "max_tokens too high": at("episode", "max_tokens = 5000", "max_tokens", "1 to 4096"),
    "thought_tokens": at("episode", "max_tokens = 20\nthought_tokens = 21", "thought_tokens", "21", "max_tokens"),
    "max_tokens for the answer": at("episode", "max_tokens = 7\nthought_tokens = 0", "max_tokens", "7", "8"),
    "max_tokens for thoughts": at(
        "episode",
        'max_tokens = 37\nthought_tokens = 9\n[thoughts]\nshare = 0.5\nstyle = "trace"\nlimit = 30',
        "max_tokens",
        "37",
        "38",
    ),
    "split's limit": at("splits.train.parameters", "limit = 5", "limit", "5", "99"),
    "split's lengths": at("splits.train.parameters", "lengths = { 0 = 1 }", "lengths", "'0'", task=COMPARE),
}

_logic, _stack, _register = parameters("logic"), parameters("stack"), parameters("register")
_branch, _loop, _function = parameters("branch"), parameters("loop"), parameters("function")

FAMILIES = {
    "arith: held out, no pair": arith('held_out = ["mul"]', "held_out", "'mul'", "'add mul'"),
    "arith: held out, no operator": arith('held_out = ["sub div"]', "held_out", "'sub div'"),
    "arith: held out, not mul": arith('held_out = ["mul add"]', "held_out", "'mul add'", "end in mul"),
    "arith: held out, one of add and sub": arith(
        'held_out = ["add mul"]\noperators = { add = 1, mul = 1 }\nlimit = 999999999', "held_out", "add and sub"
    ),
    "arith: pool": arith('pool = "all"', "pool", "'all'", "open, held"),
    "arith: nothing held": arith('pool = "held"', "pool", "held_out"),
    "arith: held without its operators": arith(
        'pool = "held"\nheld_out = ["sub mul"]\noperators = { add = 1, sub = 1 }', "operators", "sub mul"
    ),
    "arith: held of three": arith(
        'pool = "held"\nheld_out = ["sub mul"]\noperations = { 2 = 1, 3 = 1 }', "operations", "{ 2 = 1 }"
    ),
    "arith: limit of held": arith(
        'pool = "held"\nheld_out = ["sub mul"]\noperations = { 2 = 1 }\nlimit = 9800', "limit", "9800", "9801"
    ),
    "logic: operands": _logic("operands = [-1, 9]", "operands", "0 to 999999"),
    "logic: bits": _logic("bits = { 9 = 1 }", "bits", "'9'", "8"),
    "logic: terms": _logic("terms = {}", "terms", "at least one of", "1"),
    "logic: joined": _logic("joined = { 5 = 1 }\nterms = { 4 = 1, 6 = 1 }", "joined", "'5'", "fewest terms, 4"),
    "logic: bitwise": _logic("bitwise = { not = 1 }", "bitwise", "'not'", "and, or, xor"),
    "logic: relations": _logic("relations = { add = 1 }", "relations", "'add'", "eq, ne, lt, le, gt, ge"),
    "logic: negated": _logic("negated = 1.01", "negated", "1.01", "0 to 1"),
    "stack: operands": _stack("operands = [0, 1000000]", "operands", "0 to 999999"),
    "stack: operators": _stack("operators = { add = 1 }", "operators", "both add and sub"),
    "stack: limit": _stack("limit = 98", "limit", "98", "99"),
    "stack: literals": _stack("literals = { 1 = 1 }", "literals", "'1'", "2, 3"),
    "stack: moves": _stack("moves = { 0 = 1 }", "moves", "'0'", "1, 2"),
    "stack: words": _stack("stack_words = { nip = 1 }", "stack_words", "'nip'", "dup, drop"),
    "stack: only words that end": _stack("stack_words = { drop = 1, rot = 1 }", "stack_words", "'drop'", "dup, swap"),
    "stack: held out, no pair": _stack('held_out = ["swap"]', "held_out", "'swap'", "'dup pick'"),
    "stack: held out, no word": _stack('held_out = ["swap add"]', "held_out", "'swap add'"),
    "stack: nothing behind a word": _stack(
        'stack_words = { swap = 1 }\nheld_out = ["swap swap"]', "stack_words", "behind 'swap'"
    ),
    "stack: no order words": _stack("stack_words = { dup = 1, over = 1 }", "stack_words", "swap or rot"),
    "stack: pool": _stack('pool = "all"', "pool", "'all'", "open, held"),
    "stack: nothing held": _stack('pool = "held"', "pool", "held_out"),
    "stack: held without its words": _stack(
        'pool = "held"\nheld_out = ["dup rot"]\nstack_words = { dup = 1, swap = 1 }', "stack_words", "dup rot"
    ),
    "stack: held of few": _stack('pool = "held"\nheld_out = ["dup rot"]', "at least 4 literals and 2 moves"),
    "register: operations": _register("operations = { 9 = 1 }", "operations", "'9'", "8"),
    "register: one operation": _register("operations = { 1 = 1 }", "operations", "'1'", "2"),
    "register: not the other": _register("partners = { literal = 1, same = 1 }", "partners", "other"),
    "register: partners": _register("partners = { mine = 1 }", "partners", "'mine'", "literal, other, same"),
    "register: no literal": _register("partners = { other = 1 }", "partners", "literal"),
    "register: operators": _register("operators = { sub = 1 }", "operators", "both add and sub"),
    "register: limit": _register("limit = 98", "limit", "98", "99"),
    "branch: blocks": _branch("blocks = { 5 = 1 }", "blocks", "'5'", "4"),
    "branch: depths": _branch("depths = { 5 = 1 }", "depths", "'5'", "4"),
    "branch: relations": _branch("relations = { eq = 1 }", "relations", "'eq'", "lt, le, gt, ge"),
    "branch: live": _branch("live = -0.1", "live", "-0.1", "0 to 1"),
    "branch: distance": _branch("distance = 0", "distance", "1 to 999999"),
    "loop: operands": _loop("operands = [0, 9]", "operands", "1 to 999999"),
    "loop: factors": _loop("factors = [1, 3]", "factors", "2 to 999"),
    "loop: turns": _loop("turns = [0, 3]", "turns", "1 to 64"),
    "loop: too many turns": _loop("turns = [1, 65]", "turns", "1 to 64"),
    "loop: items": _loop("items = { 5 = 1 }", "items", "'5'", "4"),
    "loop: kinds": _loop("kinds = { forever = 1 }", "kinds", "'forever'", "times, until"),
    "loop: operators": _loop("operators = { add = 1, mul = 1 }", "operators", "both add and sub"),
    "loop: indexed": _loop("indexed = 2", "indexed", "2", "0 to 1"),
    "loop: limit": _loop("limit = 1088", "limit", "1088", "1089"),
    "loop: too many steps": _loop(
        "operands = [5, 9999]\nturns = [1, 64]\nitems = { 4 = 1 }\nlimit = 99999999", "turns", "1355", "1024"
    ),
    "function: limit of a fold": _function(
        "operands = [0, 9]\nlevels = [2, 48]\nlimit = 1184", "limit", "1184", "1185"
    ),
    "function: operands": _function("operands = [0, 10000]", "operands", "0 to 9999"),
    "function: factors": _function("factors = [1, 2]", "factors", "2 to 99"),
    "function: levels": _function("levels = [0, 4]", "levels", "1 to 48"),
    "function: too many levels": _function("levels = [1, 49]", "levels", "1 to 48"),
    "function: doubles": _function("doubles = [1, 4]", "doubles", "2 to 8"),
    "function: too many doubles": _function("doubles = [2, 9]", "doubles", "2 to 8"),
    "function: kinds": _function("kinds = { triple = 1 }", "kinds", "'triple'", "plain, count, fold, double"),
    "function: limit": _function("limit = 1286", "limit", "1286", "1287"),
}


def mixture(line: str, *parts: str, form: str = 'form = "answer"') -> tuple[str, list[str]]:
    return f'id = "My-Mix-v0"\n{form}\n{line}', list(parts)


_HALF = "mixture = { Cadmus-Arith-v0 = 1, Cadmus-Loop-v0 = 1 }"
MIXTURES = {
    "and a task": mixture(f'task = "arith"\n{_HALF}', "task", "'arith'", "mixture", "give one"),
    "common without one": (f"{ARITH}[common]\nlimit = 9\n{TRAIN}", ["'arith'", "common and each go with mixture"]),
    "thoughts": mixture(f"{_HALF}\n[thoughts]\nshare = 0.5", "[thoughts]", "its parts", "[common.thoughts]"),
    "unknown id": mixture("mixture = { Cadmus-Arit-v0 = 1 }", "'Cadmus-Arit-v0'", "did you mean"),
    "weight 0": mixture("mixture = { Cadmus-Arith-v0 = 0 }", "mixture", "whole weight from 1"),
    "weight of a share": mixture("mixture = { Cadmus-Arith-v0 = 0.5 }", "mixture", "0.5", "a whole number"),
    "of mixtures": mixture("mixture = { Cadmus-Mix-v0 = 1 }", "mixture", "mixtures themselves"),
    "no form": mixture(_HALF, "form", "'answer'", form=""),
    "parameters": mixture(f"{_HALF}\n[parameters]\nlimit = 9", "mixture", "parameters", "parts"),
    "share": mixture(f"{_HALF}\n[splits.train]\nshare = [0.0, 0.5]", "mixture", "shares", "parts"),
    "split's parameters": mixture(f"{_HALF}\n[splits.train.parameters]\nlimit = 9", "mixture", "parameters", "parts"),
    "itself": mixture('mixture = { "my.toml" = 1 }', "mixture", "my.toml -> my.toml", "leads back to itself"),
    "no thoughts": mixture(f"{_HALF}\n[common]\nthoughts = 5", "Cadmus-Arith-v0", "[thoughts]", "a table"),
    "a form for one part alone": mixture(
        "mixture = { Cadmus-Arith-v0 = 1, Cadmus-Compare-v0 = 1 }",
        "'value'",
        "'compare'",
        "answer",
        form='form = "value"',
    ),
    "unknown split": mixture(f"{_HALF}\n[splits.nowhere]", "[splits]", "nowhere", "train, test"),
    "max_tokens": mixture(
        f"{_HALF}\n[episode]\nmax_tokens = 71\nthought_tokens = 9", "[episode]", "max_tokens", "71", "72"
    ),
}


SHARES = {
    name: at("splits.train", f"share = {share}", "share", "[from, to] within 0 to 1")
    for name, share in {
        "empty": "[0.5, 0.5]",
        "reversed": "[0.6, 0.4]",
        "below 0": "[-0.1, 0.5]",
        "above 1": "[0.5, 1.1]",
        "no number": "[nan, 1.0]",
        "to no number": "[0.0, nan]",
        "without end": "[0.0, inf]",
        "holds no hash": "[0.0, 1e-20]",
    }.items()
}

OVERLAPS = {
    name: (f"{ARITH}[splits.one]\n{one}\n[splits.two]\n{two}", ["[splits.two]", "[splits.one]", "share"])
    for name, one, two in [
        ("same", "", ""),
        ("inside", "share = [0.0, 1.0]", "share = [0.4, 0.5]"),
        ("partly", "share = [0.0, 0.5]", "share = [0.4999, 1.0]"),
        ("the same in other words", "share = [0.0, 0.5]", "share = [0.3, 1]\nparameters = { operands = [0, 99] }"),
    ]
}

WORDS = {
    name: (f'form = "words"\nwords = {json.dumps(words)}\n{ARITH}{TRAIN}', ["words", *parts])
    for name, words, parts in [
        ("if alone", ["1", "if"], ["`if`", "`fi`"]),
        ("fi alone", ["1", "fi"], ["`if`", "`fi`"]),
        ("times alone", ["times"], ["`times`", "`next`"]),
        ("until alone", ["until"], ["`begin`", "`until`"]),
        ("ret alone", ["ret"], ["`def`", "`ret`"]),
        ("else without if", ["else"], ["`else`", "`if`"]),
        ("call without def", ["call"], ["`call`", "`def`"]),
        ("i without times", ["i"], ["`i`", "`times`"]),
        ("a parenthesis", ["("], ["'('", "cannot stand"]),
        ("end", ["end"], ["'end'", "cannot stand"]),
        ("a header token", ["case"], ["'case'", "cannot stand"]),
        ("no token", ["twelve"], ["'twelve'", "cannot stand"]),
        ("none", [], ["needs a list"]),
    ]
} | {"for another form": (f'words = ["dup"]\n{ARITH}{TRAIN}', ["words", "'value'"])}

OF_THE_READER = {
    name: (f"{line}\n{ARITH}{TRAIN}", [line.split()[0], "unknown key"])
    for name, line in {"files": 'files = ["a.toml"]', "sources": "sources = {}"}.items()
}

NOT_TOML = {
    "broken": ("id = \n", ["not TOML", "line 1"]),
    "nested too deeply": ("x = " + 5000 * "[" + 5000 * "]", ["not TOML", "nested too deeply"]),
    "a number of 5,000 digits": ("x = " + 5000 * "9", ["not TOML", "digits"]),
    "a key twice": (f"{ARITH}{ARITH}", ["not TOML"]),
    "no text": (b"\xff\xfe\x00", ["not TOML"]),
}

BASES = {
    "no such file": ('base = "nowhere.toml"\nid = "My-v0"', ["base", "'nowhere.toml'", "registered id", "file"]),
    "itself": ('base = "my.toml"\nid = "My-v0"', ["base", "'my.toml'", "leads back to itself", "my.toml -> my.toml"]),
    "a number": ('base = 5\nid = "My-v0"', ["base", "5"]),
    "a list": ('base = ["arith.toml"]\nid = "My-v0"', ["base", "arith.toml"]),
    "a table": ('id = "My-v0"\n[base]\nfile = "arith.toml"', ["base", "arith.toml"]),
    "without an id of its own": ('base = "Cadmus-Arith-v0"', ["'id'", "missing"]),
    "a mistake behind it": ('base = "Cadmus-Arith-v0"\nid = "My-v0"\n[episode]\ntokens = 1', ["[episode]", "'tokens'"]),
}

GROUPS = {
    "unknown key": UNKNOWN_KEYS,
    "wrong type": WRONG_TYPES,
    "missing": MISSING,
    "unknown name": UNKNOWN_NAMES,
    "range": RANGES,
    "family": FAMILIES,
    "mixture": MIXTURES,
    "share": SHARES,
    "overlap": OVERLAPS,
    "words": WORDS,
    "of the reader": OF_THE_READER,
    "not TOML": NOT_TOML,
    "base": BASES,
}
MISTAKES = [
    pytest.param(*case, id=f"{group}: {name}") for group, cases in GROUPS.items() for name, case in cases.items()
]


@pytest.mark.parametrize(("text", "parts"), MISTAKES)
def test_a_mistake_is_a_value_error_that_says_where_and_what_is_allowed(
    write: Any, text: str, parts: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"^my\.toml") as raised:
        cg.load_spec(write(text))
    message = str(raised.value)
    assert [part for part in parts if part not in message] == [], message


def test_the_room_of_completions_is_that_of_answers_and_of_thoughts_where_a_program_has_any() -> None:
    arith = cg.load_spec("Cadmus-Arith-v0")
    answer = cg.load_spec("Cadmus-Arith-v0", thoughts={"share": 0.0}).completion_room
    assert answer == cg.load_spec("Cadmus-Arith-v0", thoughts={"style": "none"}).completion_room
    assert answer == cg.load_spec("Cadmus-Arith-v0", thoughts={"share": 0.0, "limit": 4000}).completion_room
    assert arith.completion_room == answer + arith.thoughts.limit
    assert cg.load_spec("Cadmus-Arith-v0", thoughts={"share": 0.01, "limit": 20}).completion_room == answer + 20
    mix = cg.load_spec("Cadmus-Mix-v0", thoughts={"share": 0.0})
    assert mix.completion_room == max(part.completion_room for part, _ in mix.parts)
    assert mix.completion_room < cg.load_spec("Cadmus-Mix-v0").completion_room
    # a budget of an answer alone is enough then
    assert cg.load_spec("Cadmus-Arith-v0", thoughts={"share": 0.0}, episode={"max_tokens": answer, "thought_tokens": 0})
    with pytest.raises(ValueError, match=f"take up to {answer}"):
        cg.load_spec(
            "Cadmus-Arith-v0", thoughts={"share": 0.0}, episode={"max_tokens": answer - 1, "thought_tokens": 0}
        )


@pytest.mark.parametrize("id", ["", "no version!", "My Arith-v0", "/My-Arith-v0"])
def test_an_id_that_cannot_be_registered_is_a_value_error(write: Any, registry: None, id: str) -> None:
    with pytest.raises(ValueError, match=r"^my\.toml.*id"):
        cg.register(write(f'id = "{id}"\ntask = "arith"\n{TRAIN}'))
    assert id not in cg.SPECS


@pytest.mark.parametrize(
    "text",
    [
        written("parameters", "operands = [-2147483647, 2147483647]\nlimit = 2147483647"),
        written("parameters", "operators = { mul = 1 }\nlimit = 970299"),
        written("parameters", "operators = { add = 1 }\nlimit = 297"),
        written("parameters", "operations = { 7 = 1000000 }"),
        written("parameters", "lengths = { 9 = 1, 1-8 = 1 }", COMPARE),
        written("parameters", "lengths = { 1 = 1 }\norder = { digit = 1 }\nequality = { digit = 1 }", COMPARE),
        written("parameters", "lengths = { 5 = 1 }\nrelations = { eq = 1 }\nequality = { swap = 1 }", COMPARE),
        written("parameters", 'lengths = { 3 = 1 }\nreserved_from = 0\npool = "reserved"', COMPARE),
        written("episode", "max_tokens = 8\nthought_tokens = 8"),
        written("episode", 'max_tokens = 38\nthought_tokens = 9\n[thoughts]\nshare = 1\nstyle = "trace"\nlimit = 30'),
        written("episode", "max_tokens = 8\nthought_tokens = 8\n[thoughts]\nshare = 1\nlimit = 30"),
        written("splits.one", "share = [0.0, 0.5]\n[splits.two]\nshare = [0.5, 1.0]"),
        written("thoughts", 'share = 1\nstyle = "values"\nlimit = 3'),
        written("thoughts", 'share = 0\nstyle = "values"\nlimit = 2'),
        written("thoughts", "limit = 4096"),
    ],
)
def test_every_valid_boundary_is_accepted(write: Any, text: str) -> None:
    spec = cg.load_spec(write(text))
    for split in spec.splits:
        programs, _ = cg.Stream(spec, split).batch(0, 50)
        assert not cg.run_batch(programs)[0].any()


def test_a_file_that_is_not_there_is_a_file_not_found_error(tmp_path: Path) -> None:
    for ask in (cg.load_spec, cg.register):
        with pytest.raises(FileNotFoundError):
            ask(tmp_path / "nowhere.toml")


# Names and overrides.


def test_an_unknown_id_comes_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"'Cadmus-Arit-v0'.*did you mean Cadmus-Arith-v0"):
        cg.load_spec("Cadmus-Arit-v0")
    with pytest.raises(ValueError, match=r"registered are .*Cadmus-Arith-v0"):
        cg.load_spec("zzz")


@pytest.mark.parametrize("id", IDS)
def test_an_unknown_split_or_keyword_is_named(id: str) -> None:
    splits = ", ".join(cg.load_spec(id).splits)
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(ValueError, match=rf"{id}: no split 'nowhere'; it has {splits}"):
            make(id, split="nowhere")
        wanted = rf"{id} got an unexpected keyword argument 'rewards'; did you mean 'reward'\? known: .*episode"
        with pytest.raises(TypeError, match=wanted):
            make(id, rewards="truth")
        with pytest.raises(ValueError, match=r"endian = 'middle': known are big, little"):
            make(id, endian="middle")
    with pytest.raises(ValueError, match=rf"{id}: no split 'nowhere'; it has {splits}"):
        cg.Stream(id, "nowhere")


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"id": "Other-v0"}, ["'id'", "known"]),
        ({"task": "compare"}, ["'task'", "known"]),
        ({"operandz": [0, 9]}, ["'operandz'", "did you mean 'operands'"]),
        ({"operands": [9, 0]}, ["[parameters]", "operands", "[9, 0]"]),
        ({"operands": "few"}, ["[parameters]", "operands", "'few'", "a list"]),
        ({"thoughts": None}, ["[thoughts]", "None", "a table"]),
        ({"thoughts": {"stiles": "none"}}, ["[thoughts]", "'stiles'", "style"]),
        ({"episode": {"max_tokens": 1}}, ["max_tokens", "thought_tokens"]),
        ({"words": ["dup"]}, ["words", "'value'"]),
        ({"form": "words"}, ["words", "needs a list"]),
        ({"splits": {"train": 5}}, ["[splits.train]", "5", "a table"]),
        ({"reward": None}, ["reward", "None", "a text"]),
    ],
)
def test_a_mistake_in_an_override_names_id_and_key(overrides: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^Cadmus-Arith-v0") as raised:
        cg.load_spec("Cadmus-Arith-v0", **overrides)
    assert [part for part in parts if part not in str(raised.value)] == [], str(raised.value)


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    before = dataclasses.asdict(spec)
    after = dataclasses.asdict(
        spec.override(limit=500, thoughts={"share": 0.5}, reward="cases", episode={"max_tokens": 90}, description="x")
    )
    expected = json.loads(json.dumps(before))
    expected["parameters"]["limit"] = 500
    expected["thoughts"]["share"] = 0.5
    expected["reward"] = "cases"
    expected["episode"]["max_tokens"] = 90
    expected["description"] = "x"
    assert json.loads(json.dumps(after)) == expected
    assert dataclasses.asdict(spec) == before


def test_an_override_of_parameters_merges_by_key_and_splits_keep_their_own() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", parameters={"operands": [0, 9]})
    assert spec.split_parameters("train").operands == (0, 9)
    assert spec.split_parameters("train").limit == 9999
    assert spec.split_parameters("wide").operands == (100, 999)
    assert spec == cg.load_spec("Cadmus-Arith-v0", operands=[0, 9])


def test_an_override_can_add_a_split() -> None:
    added = {"parameters": {"operands": [100, 105], "limit": 999}}
    spec = cg.load_spec("Cadmus-Arith-v0", splits={"small": added})
    assert list(spec.splits) == [*cg.load_spec("Cadmus-Arith-v0").splits, "small"]
    assert cg.Stream(spec, "small").batch(0, 5)[0].shape[0] == 5


def test_an_override_of_the_form_drops_words_that_it_cannot_have() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", form="words", words=["dup", "eq"])
    assert spec.words == ("dup", "eq")
    assert spec.override(form="value").words == ()
    assert spec.override(reward="cases").words == ("dup", "eq")


def test_an_override_can_be_undone() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    assert spec.override(limit=500).override(limit=9999) == spec
    assert spec.override(limit=500).override(limit=9999).digests() == spec.digests()


# Digests.


def golden() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for id in IDS:
        for split, digest in cg.load_spec(id).digests().items():
            programs, _ = cg.Stream(id, split, seed=0).batch(0, 3)
            first = [cg.disassemble(program[program > 0]) for program in programs]
            found.setdefault(id, {})[split] = [digest, *first]
    return found


def test_what_an_id_gives_has_not_changed_and_none_is_left_out() -> None:
    assert golden() == GOLDEN


@pytest.mark.parametrize("id", IDS)
def test_digests_tell_all_splits_apart(id: str) -> None:
    digests = cg.load_spec(id).digests()
    assert len(set(digests.values())) == len(digests)
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests.values())


@pytest.mark.parametrize(
    "overrides",
    [
        {"splits": {"more": {"parameters": {"limit": 98765}}}},
        {"description": "other"},
        {"reward": "cases"},
        {"episode": {"max_tokens": 1000, "thought_tokens": 10}},
        {"form": "free", "words": []},
        {"form": "words", "words": ["dup", "eq"]},
    ],
    ids=["split", "description", "reward", "episode", "form", "words"],
)
def test_what_does_not_shape_a_program_does_not_shift_a_digest(overrides: dict[str, Any]) -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    other = spec.override(**overrides)
    assert {name: other.digests()[name] for name in spec.splits} == spec.digests()
    assert other.digest != spec.digest


def test_a_split_may_be_described_anew() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    splits = {name: dataclasses.replace(split, description="other") for name, split in spec.splits.items()}
    assert dataclasses.replace(spec, splits=splits).digests() == spec.digests()


SHAPING: dict[str, list[dict[str, Any]]] = {
    "Cadmus-Logic-v0": [
        {"operands": [2, 98]},
        {"bits": {"1": 1}},
        {"terms": {"4": 1, "5": 2}},
        {"joined": {"0": 1, "1": 2}},
        {"bitwise": {"and": 1}},
        {"relations": {"eq": 1}},
        {"negated": 0.26},
    ],
    "Cadmus-Stack-v0": [
        {"operands": [2, 98]},
        {"operators": {"add": 1, "sub": 1}},
        {"literals": {"2": 1}},
        {"moves": {"2": 1}},
        {"stack_words": {"swap": 1, "over": 1, "dup": 1}},
        {"limit": 9998},
        {"held_out": ["swap over"]},
    ],
    "Cadmus-Register-v0": [{"operations": {"2": 1}}, {"partners": {"literal": 1, "other": 1}}, {"limit": 9998}],
    "Cadmus-Branch-v0": [
        {"blocks": {"2": 1}},
        {"depths": {"1": 1}},
        {"relations": {"lt": 1}},
        {"live": 0.51},
        {"distance": 21},
    ],
    "Cadmus-Loop-v0": [
        {"factors": [2, 2]},
        {"turns": [2, 4]},
        {"items": {"1": 1}},
        {"indexed": 0.26},
        {"kinds": {"times": 1}},
    ],
    "Cadmus-Function-v0": [{"factors": [2, 2]}, {"levels": [2, 3]}, {"doubles": [2, 3]}, {"kinds": {"count": 1}}],
    "Cadmus-Mix-v0": [{"thoughts": {"share": 0.5, "style": "trace"}}],
    "Cadmus-Arith-v0": [
        {"operands": [0, 98]},
        {"operators": {"add": 2, "sub": 1, "mul": 1}},
        {"operators": {"add": 1, "sub": 1}},
        {"operations": {"1": 1, "2": 2}},
        {"limit": 9998},
        {"thoughts": {"share": 0.999}},
        {"thoughts": {"style": "values"}},
        {"thoughts": {"limit": 47}},
    ],
    "Cadmus-Compare-v0": [
        {"lengths": {"5": 1, "1-4": 1}},
        {"relations": {"eq": 1}},
        {"ties": 0.2501},
        {"order": {"digit": 1}},
        {"equality": {"digit": 1}},
        {"outer": 0.3},
        {"reserved": [97, 14]},
        {"reserved_from": 10001},
    ],
}


@pytest.mark.parametrize(("id", "overrides"), [(id, change) for id in SHAPING for change in SHAPING[id]], ids=str)
def test_what_shapes_a_program_changes_its_digest(id: str, overrides: dict[str, Any]) -> None:
    assert cg.load_spec(id, **overrides).digests()["train"] != cg.load_spec(id).digests()["train"]


def test_a_share_is_in_the_digest() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    shares = [[0.1, 1.0], [0.1, 0.9], [0.1, 0.90000001], [0.2, 1.0]]
    digests = {spec.override(splits={"train": {"share": share}}).digests()["train"] for share in shares}
    assert len(digests) == len(shares)


def test_the_weights_of_a_mixture_are_in_its_digests() -> None:
    values = {"id": "My-Mix-v0", "form": "answer"}
    one, other = (
        cg.load_spec({**values, "mixture": {"Cadmus-Arith-v0": 1, "Cadmus-Compare-v0": weight}}) for weight in (1, 2)
    )
    assert all(one.digest_of(split) != other.digest_of(split) for split in ("train", "test"))


def test_a_default_that_is_written_out_is_the_same_spec(write: Any) -> None:
    short = cg.load_spec(write(f"{ARITH}{TRAIN}"))
    long = cg.load_spec(
        write(
            written("parameters", "operands = [0, 99]\noperators = { mul = 1, add = 1, sub = 1 }\nlimit = 9999")
            + "share = [0, 1]"
        )
    )
    assert long.digests() == short.digests()


def test_the_id_is_in_no_digest_of_a_split() -> None:
    assert cg.load_spec("Cadmus-Open-v0").digests() == cg.load_spec("Cadmus-Arith-v0").digests()


# A user's own environment.

MINE = """
id = "Mine-v3"
task = "arith"
[parameters]
operands = [0, 9]
[episode]
max_tokens = 16
thought_tokens = 4
[splits.train]
share = [0.2, 1.0]
[splits.test]
share = [0.0, 0.2]
"""


@pytest.fixture
def mine(write: Any, registry: None) -> cg.Spec:
    return cg.register(write(MINE))


def test_a_registered_file_is_known_everywhere(mine: cg.Spec) -> None:
    assert mine == cg.load_spec("Mine-v3")
    expected, lengths = cg.Stream("Mine-v3", "test", seed=7).batch(0, 1)
    prompt = expected[0, : lengths[0]]
    observation, _ = gymnasium.make("Mine-v3", split="test").reset(seed=7)
    np.testing.assert_array_equal(observation[: prompt.size], prompt)
    observations, _ = gymnasium.make_vec("Mine-v3", num_envs=2, split="test").reset(seed=7)
    np.testing.assert_array_equal(observations[0], observation)


def test_registering_again_replaces(write: Any, mine: cg.Spec) -> None:
    cg.register(write(MINE.replace("[0, 9]", "[90, 99]"), "other.toml"))
    assert cg.load_spec("Mine-v3").split_parameters("train").operands == (90, 99)
    observation, _ = gymnasium.make("Mine-v3").reset(seed=1)
    assert cg.decode(observation[:1]) == "9"


def test_another_process_finds_a_registered_file(mine: cg.Spec) -> None:
    environment = gymnasium.make("Mine-v3", limit=50)
    observation, _ = environment.reset(seed=3)
    assert environment.spec is not None
    code = (
        "import sys, gymnasium\n"
        "from gymnasium.envs.registration import EnvSpec\n"
        "environment = gymnasium.make(EnvSpec.from_json(sys.stdin.read()))\n"
        "print(environment.reset(seed=3)[0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        input=environment.spec.to_json(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == observation.tolist()


def test_spawned_workers_find_a_registered_file(mine: cg.Spec) -> None:
    options = {"num_envs": 1, "vectorization_mode": "async", "vector_kwargs": {"context": "spawn"}}
    workers = gymnasium.make_vec("Mine-v3", **options)
    try:
        observations, _ = workers.reset(seed=5)
        np.testing.assert_array_equal(observations[0], gymnasium.make("Mine-v3").reset(seed=5)[0])
    finally:
        workers.close()


def in_another_process(code: str, environment: gymnasium.Env[Any, Any], folder: Path) -> Any:
    """Return what code prints, as JSON, when it is given the EnvSpec of an environment and run in an empty folder."""
    assert environment.spec is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=environment.spec.to_json(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PLAYS = """
import sys, gymnasium
from gymnasium.envs.registration import EnvSpec
environment = gymnasium.make(EnvSpec.from_json(sys.stdin.read()))
print([environment.reset(seed=seed)[0].tolist() for seed in range(8)])
"""

LOCAL = """
from dataclasses import dataclass
from cadmus_gym.tasks import Family

@dataclass(frozen=True)
class Parameters:
    most: int = 99

def compose(parameters, choices):
    return f"{choices.integer(0, parameters.most)} 7 add"

LOCAL = Family("local", version=1, parameters=Parameters, form="value", room=lambda parameters: 8, compose=compose)
"""


@pytest.fixture
def local(tmp_path: Path) -> Iterator[str]:
    """A module in plain Python beside the files of a test, which nothing else has imported; its name."""
    name = f"local_{tmp_path.parent.name}_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(LOCAL)
    yield name
    sys.modules.pop(name, None)


def test_a_mixture_of_ones_own_is_whole_in_another_process(
    write: Any, registry: None, local: str, mine: cg.Spec, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}', "local.toml")
    write('base = "Mine-v3"\nid = "Based-v0"\n[parameters]\noperands = [2, 5]', "based.toml")
    cg.register(write('base = "based.toml"\nid = "Twice-v0"', "twice.toml"))
    parts = '"Mine-v3" = 1\n"local.toml" = 1\n"Twice-v0" = 1\n"Cadmus-Loop-v0" = 1'
    cg.register(
        write(f'id = "Mixed-v0"\nform = "answer"\n[mixture]\n{parts}\n[episode]\nmax_tokens = 99', "mixed.toml")
    )
    environment = gymnasium.make("Mixed-v0", thoughts={"share": 0.5})
    here = [environment.reset(seed=seed)[0].tolist() for seed in range(8)]
    assert in_another_process(PLAYS, environment, tmp_path_factory.mktemp("elsewhere")) == here


def test_spawned_workers_have_a_mixture_of_ones_own(write: Any, registry: None, mine: cg.Spec) -> None:
    cg.register(write('id = "Mixed-v0"\nform = "value"\n[mixture]\nMine-v3 = 1\nCadmus-Arith-v0 = 1', "mixed.toml"))
    options = {"num_envs": 1, "vectorization_mode": "async", "vector_kwargs": {"context": "spawn"}}
    workers = gymnasium.make_vec("Mixed-v0", **options)
    try:
        observations, _ = workers.reset(seed=5)
        np.testing.assert_array_equal(observations[0], gymnasium.make("Mixed-v0").reset(seed=5)[0])
    finally:
        workers.close()


def test_what_is_named_by_file_is_looked_up_beside_the_file(
    write: Any, local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(MINE, "part.toml")
    write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}', "local.toml")
    mixed = write('id = "Mixed-v0"\nform = "value"\n[mixture]\n"part.toml" = 1\n"local.toml" = 1', "mixed.toml")
    (tmp_path / "inner").mkdir()
    derived = write('base = "../local.toml"\nid = "Derived-v0"\n[parameters]\nmost = 9', "inner/derived.toml")
    monkeypatch.chdir("/")
    assert [part.id for part, _ in cg.load_spec(mixed).parts] == ["Mine-v3", "Local-v0"]
    table = cg.load_spec(derived).table()
    sys.modules.pop(local)  # as in another process
    assert cg.load_spec(table).split_parameters("train").most == 9
    assert str(tmp_path) not in sys.path


def test_a_module_may_be_in_a_package_beside_the_file(write: Any, local: str, tmp_path: Path) -> None:
    (tmp_path / local).mkdir()
    (tmp_path / f"{local}.py").rename(tmp_path / local / "inner.py")
    (tmp_path / local / "__init__.py").write_text(LOCAL)
    for module in (f"{local}.inner", local):
        spec = cg.load_spec(write(f'id = "Local-v0"\ntask = "{module}:LOCAL"\n{TRAIN}'))
        assert spec.family.compose.__module__ == module  # type: ignore[union-attr]
    sys.modules.pop(f"{local}.inner")
    assert str(tmp_path) not in sys.path


def test_a_module_hidden_by_another_of_its_name_is_an_error(write: Any) -> None:
    write(LOCAL, "json.py")
    with pytest.raises(ValueError, match=r"my\.toml task = 'json:LOCAL'.*hidden by another module named json.*rename"):
        cg.load_spec(write(f'id = "Local-v0"\ntask = "json:LOCAL"\n{TRAIN}'))


def test_a_module_that_fails_is_named_with_its_error(write: Any, local: str, tmp_path: Path) -> None:
    (tmp_path / f"{local}.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=r"my\.toml task = .*ZeroDivisionError: division by zero"):
        cg.load_spec(write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}'))


@pytest.mark.parametrize("id", IDS)
def test_a_spec_goes_through_its_table_and_through_pickle(id: str) -> None:
    spec = cg.load_spec(id)
    table = json.loads(json.dumps(spec.table()))
    for again in (cg.load_spec(table), pickle.loads(pickle.dumps(spec))):
        assert again == spec
        assert (again.digest, again.digests()) == (spec.digest, spec.digests())
    assert cg.load_spec(table, thoughts={"share": 0.25}) == spec.override(thoughts={"share": 0.25})


def test_where_a_spec_was_read_is_not_in_its_digest(write: Any, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    one, other = (cg.load_spec(write(f"{ARITH}{TRAIN}", name)) for name in ("one.toml", "inner/other.toml"))
    assert one.files != other.files
    assert one.digest == other.digest


def test_a_table_of_values_is_a_spec_and_its_mistakes_are_named() -> None:
    table = {"id": "Table-v0", "task": "arith", "splits": {"train": {}}}
    assert cg.load_spec(table).split_parameters("train").operands == (0, 99)
    for wrong, parts in (
        ({**table, "task": 5}, ["Table-v0 task", "a text"]),
        ({**table, "files": 5}, ["Table-v0 files", "Spec.table()"]),
        ({**table, "sources": "x"}, ["Table-v0 sources", "Spec.table()"]),
        ({"task": "arith"}, ["a table of values", "'id'", "missing"]),
        ({}, ["a table of values", "'id'"]),
    ):
        with pytest.raises(ValueError, match=r"Table-v0|a table") as raised:
            cg.load_spec(wrong)
        assert [part for part in parts if part not in str(raised.value)] == [], raised.value


def test_an_environment_of_the_package_cannot_be_replaced(write: Any, registry: None) -> None:
    digest = cg.load_spec("Cadmus-Arith-v0").digest
    for text in (
        f'id = "Cadmus-Arith-v0"\ntask = "arith"\n{TRAIN}',
        'base = "Cadmus-Arith-v0"\nid = "Cadmus-Arith-v0"',
    ):
        with pytest.raises(ValueError, match=r"^my\.toml id = 'Cadmus-Arith-v0'.*another id"):
            cg.register(write(text))
    assert cg.load_spec("Cadmus-Arith-v0").digest == digest
    cg.load_spec("Cadmus-Mix-v0")


@pytest.mark.parametrize(
    "text", ['base = "Mine-v3"\nid = "Mine-v3"', 'id = "Mine-v3"\nform = "value"\nmixture = { Mine-v3 = 1 }']
)
def test_an_id_that_leads_to_itself_is_not_registered(write: Any, mine: cg.Spec, text: str) -> None:
    with pytest.raises(ValueError, match=r"itself\.toml.*leads back to itself: itself\.toml -> itself\.toml"):
        cg.register(write(text, "itself.toml"))
    assert cg.load_spec("Mine-v3") == mine
    gymnasium.make("Mine-v3").reset(seed=0)


def test_a_circle_of_mixtures_is_an_error(write: Any, registry: None, mine: cg.Spec) -> None:
    write('id = "One-v0"\nform = "value"\nmixture = { "two.toml" = 1 }', "one.toml")
    two = write('id = "Two-v0"\nform = "value"\nmixture = { "one.toml" = 1 }', "two.toml")
    with pytest.raises(ValueError, match=r"^two\.toml .*two\.toml -> one\.toml -> two\.toml"):
        cg.load_spec(two)


def test_a_long_chain_of_bases_is_an_error(write: Any) -> None:
    write(MINE, "0.toml")
    for k in range(1, 40):
        last = write(f'base = "{k - 1}.toml"\nid = "K-v{k}"', f"{k}.toml")
    for file in (last, last.with_name("16.toml")):
        with pytest.raises(ValueError, match=rf"^{file.name} .*more than 16 files"):
            cg.load_spec(file)
    assert cg.load_spec(last.with_name("15.toml")).id == "K-v15"  # the 16th file


def test_a_path_that_is_no_file_is_named(write: Any, tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    for name in ("folder.toml", "loop.toml"):
        for ask in (cg.load_spec, cg.register):
            with pytest.raises(ValueError, match=rf"^{name}: cannot be read: .*give a TOML file"):
                ask(tmp_path / name)


def test_a_byte_order_mark_is_passed_over(write: Any) -> None:
    assert cg.load_spec(write(b"\xef\xbb\xbf" + MINE.encode())).id == "Mine-v3"


def test_an_id_that_reads_as_a_path_is_refused(write: Any) -> None:
    with pytest.raises(ValueError, match=r"^my\.toml id = 'foo\.toml': reads as the path of a file"):
        cg.load_spec(write(f'id = "foo.toml"\ntask = "arith"\n{TRAIN}'))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"parameters": 0, "depths": {"1": 1}}, ["[parameters]", "a table", "0"]),
        ({"splits": (0, 9), "live": 0}, ["[splits]", "a table", "(0, 9)"]),
        ({"splits": {"train": None}, "live": 0}, ["[splits.train]", "a table", "None"]),
        ({"thoughts": None}, ["[thoughts]", "a table", "None"]),
        ({"thoughts": {None: 1}}, ["[thoughts]", "None", "share"]),
        ({"episode": {1: 1}}, ["[episode]", "1", "max_tokens"]),
        ({"episode": 64}, ["[episode]", "a table", "64"]),
        ({"depths": {(1, 2): 1}}, ["depths", "a table"]),
        ({"files": ("a.toml",)}, ["unexpected keyword", "'files'", "known"]),
    ],
)
def test_nonsense_given_by_keyword_is_a_value_error(overrides: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^Cadmus-Branch-v0") as raised:
        cg.load_spec("Cadmus-Branch-v0", **overrides)
    assert [part for part in parts if part not in str(raised.value)] == [], raised.value


def test_what_is_overridden_in_one_part_of_a_mixture_alone() -> None:
    each = {"Cadmus-Arith-v0": {"negative": 1.0, "thoughts": {"share": 0.0}}}
    spec = cg.load_spec("Cadmus-Mix-v0", common={"thoughts": {"share": 0.5}}, each=each)
    (arith, _), *others = spec.parts
    assert arith.parameters["negative"] == 1.0
    assert arith.thoughts.share == 0.0
    assert {part.thoughts.share for part, _ in others} == {0.5}
    changed = {
        name for name, digest in spec.digests().items() if digest != cg.load_spec("Cadmus-Mix-v0").digests()[name]
    }
    assert changed == set(spec.splits)
    assert cg.load_spec(json.loads(json.dumps(spec.table()))).digests() == spec.digests()
    with pytest.raises(ValueError, match=r"\[each\]: no part Cadmus-Loop-v1; they are .*Cadmus-Loop-v0"):
        cg.load_spec("Cadmus-Mix-v0", each={"Cadmus-Loop-v1": {}})
    with pytest.raises(ValueError, match=r"Cadmus-Arith-v0 .*negative"):
        cg.load_spec("Cadmus-Mix-v0", each={"Cadmus-Arith-v0": {"negative": 2.0}})


def test_what_is_common_to_the_parts_of_a_mixture_goes_before_its_own_episode() -> None:
    spec = cg.load_spec("Cadmus-Mix-v0", common={"episode": {"max_tokens": 200}}, episode={"max_tokens": 300})
    assert {part.episode.max_tokens for part, _ in spec.parts} == {200}
    assert spec.episode.max_tokens == 300


def test_overrides_of_the_thoughts_of_a_mixture_add_up() -> None:
    spec = cg.load_spec("Cadmus-Mix-v0", thoughts={"share": 0.5}).override(thoughts={"style": "trace"})
    assert {(part.thoughts.share, part.thoughts.style) for part, _ in spec.parts} == {(0.5, "trace")}


def test_thoughts_of_a_mixture_that_are_no_table_are_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"\[thoughts\].*a table, not None"):
        cg.load_spec("Cadmus-Mix-v0", thoughts=None)


def test_keys_that_are_numbers_may_be_given_as_numbers() -> None:
    assert cg.load_spec("Cadmus-Arith-v0", operations={1: 3}) == cg.load_spec("Cadmus-Arith-v0", operations={"1": 3})


def test_a_split_without_problems_is_found_when_its_stream_is_made(write: Any) -> None:
    path = write(f"{ARITH}[parameters]\noperands = [5, 5]\noperations = {{ 1 = 1 }}\n[splits.few]\nshare = [0, 1e-3]")
    with pytest.raises(ValueError, match=r"^My-Arith-v0 \(my\.toml\) \[splits\.few\]: none of 100000 attempts.*wider"):
        cg.Stream(path, "few")
    with pytest.raises(ValueError, match=r"my\.toml"):
        cg.CadmusEnv(path, split="few")


def test_a_family_that_writes_past_its_room_is_named(write: Any, local: str, tmp_path: Path) -> None:
    (tmp_path / f"{local}.py").write_text(LOCAL.replace("8,", "3,"))
    path = write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n[parameters]\nmost = 9\n{TRAIN}')
    with pytest.raises(ValueError, match=r"^Local-v0 \(my\.toml\) \[splits\.train\].*' has 4 tokens.*room.*at most 3"):
        cg.Stream(path)


COMPILED = """
from dataclasses import dataclass
import numpy as np
from cadmus_gym.tasks import Family, writer

@dataclass(frozen=True)
class Parameters:
    pass

def write(parameters, rng, script, program, marks, work, machine):
    for position in range(4):
        program[position] = 13 + position
    program[4] = 25
    marks[0] = 5
    return np.uint64(0)

LOCAL = Family("local", 1, Parameters, "value", lambda parameters: 4, writer(write), lambda _: np.zeros(1, np.int64))
"""


def test_a_compiled_family_that_writes_past_its_room_is_named(write: Any, local: str, tmp_path: Path) -> None:
    (tmp_path / f"{local}.py").write_text(COMPILED)
    with pytest.raises(ValueError, match=r"^Local-v0 \(my\.toml\) .* longer than room\(\) allows"):
        cg.Stream(write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}'))


@pytest.mark.parametrize("returned", ["5", "None", "'1 nonsense'", "'1 2'", "'case to 1 do'", "''"])
def test_a_family_that_writes_no_prompt_is_named(write: Any, local: str, tmp_path: Path, returned: str) -> None:
    (tmp_path / f"{local}.py").write_text(LOCAL.replace('f"{choices.integer(0, parameters.most)} 7 add"', returned))
    with pytest.raises(ValueError, match=r"^Local-v0 \(my\.toml\) \[splits\.train\]: task 'local_.*:LOCAL': "):
        cg.Stream(write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}'))


@pytest.mark.parametrize("base", ["Cadmus-Arith-v0", "other.toml"])
def test_a_file_starts_from_its_base(write: Any, base: str) -> None:
    write((FOLDER / "arith.toml").read_bytes(), "other.toml")
    mine = 'id = "Mine-v0"\n[thoughts]\nshare = 0.0\n[splits.more]\nparameters = { limit = 500 }'
    spec = cg.load_spec(write(f'base = "{base}"\n{mine}'))
    parent = cg.load_spec("Cadmus-Arith-v0")
    assert spec.id == "Mine-v0"
    assert spec.thoughts == dataclasses.replace(parent.thoughts, share=0.0)
    assert list(spec.splits) == [*parent.splits, "more"]
    assert (spec.parameters, spec.episode, spec.form) == (parent.parameters, parent.episode, parent.form)


def test_a_split_of_the_base_that_new_parameters_do_not_go_with_is_left_out(write: Any) -> None:
    write(f"{ARITH}{TRAIN}[splits.wide]\nparameters = {{ operands = [100, 999] }}", "other.toml")
    spec = cg.load_spec(write('base = "other.toml"\nid = "Mine-v0"\n[parameters]\nlimit = 500'))
    assert list(spec.splits) == ["train"]


def test_a_dataclass_of_another_table_is_a_value_error() -> None:
    values = {
        "id": "X-v0",
        "task": "arith",
        "splits": {"train": {}},
        "thoughts": cg.load_spec("Cadmus-Arith-v0").episode,
    }
    with pytest.raises(ValueError, match=r"^X-v0 \[thoughts\]: expected a table"):
        cg.load_spec(values)


@pytest.mark.parametrize(
    ("thoughts", "room"),
    [
        ({"share": 1.0, "style": "trace", "limit": 30}, 38),
        ({"share": 0.0, "style": "trace", "limit": 30}, 8),
        ({"share": 1.0, "style": "none", "limit": 30}, 8),
        ({}, 8),
    ],
    ids=["thoughts", "share 0", "no style", "none"],
)
def test_rooms_by_hand(thoughts: dict[str, Any], room: int) -> None:
    """`, 9 9 9 9 neg eq end` are 8 tokens, and three operands `, 9 9 neg` with two operators 14."""
    values = {"id": "My-v0", "task": "arith", "thoughts": thoughts, "splits": {"train": {}}}
    spec = cg.load_spec(values)
    assert (spec.prompt_room, spec.completion_room) == (14, room)
    large = {"parameters": {"operands": [0, 999], "limit": 999999}}
    for splits in ({"large": large, "train": {}}, {"train": {}, "large": large}):
        spec = cg.load_spec(values | {"splits": splits})
        assert (spec.prompt_room, spec.completion_room) == (17, room + 2)
    relation = {"id": "Mine-v0", "task": "compare", "splits": {"train": {}}}  # 5 digits, and `not end`
    assert (cg.load_spec(relation).prompt_room, cg.load_spec(relation).completion_room) == (15, 2)
    parts = {"one": relation, "two": cg.load_spec(values).table()}
    mixed = {"id": "Mix-v0", "form": "answer", "mixture": {"one": 1, "two": 1}, "sources": parts}
    assert (cg.load_spec(mixed).prompt_room, cg.load_spec(mixed).completion_room) == (15, room)


@pytest.mark.parametrize("id", IDS)
def test_a_shipped_spec_explains_itself(id: str) -> None:
    spec = cg.load_spec(id)
    assert spec.id == id
    assert spec.description
    assert all(split.description for split in spec.splits.values())
    assert {"train", "test"} <= spec.splits.keys()


@pytest.mark.parametrize("id", IDS)
def test_a_spec_cannot_be_changed_in_place(id: str) -> None:
    spec = cg.load_spec(id)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.reward = "cases"  # type: ignore[misc]
    assert cg.load_spec(id) == spec
    assert cg.load_spec(id).digest == spec.digest


if __name__ == "__main__":
    print(json.dumps(golden(), indent=1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base = '{}'", "K.toml base = "),
        ("form = 'answer'\nmixture = {{ '{}' = 1 }}", "K.toml mixture "),
    ],
)
def test_a_file_that_no_system_can_name_is_not_found(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "K.toml"
    path.write_text("id = 'K-v0'\n" + text.format("a" * 300 + ".toml"))
    with pytest.raises(ValueError, match=re.escape(said)):
        cg.load_spec(path)


def test_a_table_that_holds_itself_is_refused() -> None:
    parameters: dict[str, Any] = {}
    parameters["operations"] = parameters
    with pytest.raises(ValueError, match="Cadmus-Arith-v0 is nested too deeply, or holds itself"):
        cg.load_spec("Cadmus-Arith-v0", parameters=parameters)
    mixture = cg.load_spec("Cadmus-Mix-v0").table()
    mixture["sources"] = {**mixture["sources"], "Cadmus-Arith-v0": mixture}
    with pytest.raises(ValueError, match="a table that holds itself"):
        cg.load_spec(mixture)


def test_a_form_that_is_an_array_is_named() -> None:
    with pytest.raises(ValueError, match=r"Cadmus-Arith-v0 form = array\(\[1, 2\]\): expected a text"):
        cg.load_spec("Cadmus-Arith-v0", form=np.array([1, 2]))


def test_a_list_that_is_expected_is_described() -> None:
    with pytest.raises(ValueError, match="operands = 5: expected a list of 2 whole numbers"):
        cg.load_spec("Cadmus-Arith-v0", operands=5)
    with pytest.raises(ValueError, match="held_out = 5: expected a list of texts"):
        cg.load_spec("Cadmus-Arith-v0", held_out=5)
