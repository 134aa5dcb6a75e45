"""Every mistake in a spec is an error that names the file, the key and what is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.specs import ARITH, TRAIN, arith, at, mixture, parameters, written

import cadmus_gym as cg

COMPARE = 'id = "My-Compare-v0"\ntask = "compare"\n'


def compare(line: str, *parts: str) -> tuple[str, list[str]]:
    return at("parameters", line, *parts, task=COMPARE)


def top(line: str, *parts: str) -> tuple[str, list[str]]:
    return f"{line}\n{ARITH}{TRAIN}", list(parts)


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
    "id": (f'id = 5\ntask = "arith"\n{TRAIN}', ["id", "5", "a string"]),
    "task": (f'id = "My-v0"\ntask = ["arith"]\n{TRAIN}', ["task", "arith", "a string"]),
    "description": top("description = 5", "description", "5", "a string"),
    "form": top("form = 5", "form", "5", "a string"),
    "words": top('form = "words"\nwords = "dup"', "words", "'dup'", "a list"),
    "one of words": top('form = "words"\nwords = ["dup", 5]', "words", "5", "a list of strings"),
    "reward": top("reward = true", "reward", "True", "a string"),
    "parameters": top("parameters = 5", "parameters", "5", "a table"),
    "thoughts": top('thoughts = "none"', "[thoughts]", "'none'", "a table"),
    "thoughts.share": at("thoughts", 'share = "all"', "share", "'all'", "a number"),
    "thoughts.style": at("thoughts", "style = 1", "style", "1", "a string"),
    "thoughts.limit": at("thoughts", "limit = 1.5", "limit", "1.5", "a whole number"),
    "a truth value for a number": at("thoughts", "limit = true", "limit", "True", "a whole number"),
    "episode": top("episode = 64", "[episode]", "64", "a table"),
    "max_tokens": at("episode", 'max_tokens = "64"', "max_tokens", "'64'", "a whole number"),
    "thought_tokens": at("episode", "thought_tokens = 4.0", "thought_tokens", "4.0", "a whole number"),
    "splits": (f"splits = 5\n{ARITH}", ["splits", "5", "a table"]),
    "split": (f"{ARITH}[splits]\ntrain = 5", ["[splits.train]", "5", "a table"]),
    "share": at("splits.train", "share = 0.5", "share", "0.5", "a list"),
    "share of one": at("splits.train", "share = [0.5]", "share", "[0.5]", "a list of two numbers"),
    "share of three": at("splits.train", "share = [0, 0.5, 1]", "share", "a list of two numbers"),
    "share of strings": at("splits.train", 'share = ["0", "1"]', "share", "'0'", "two numbers, e.g. [0.0, 1.0]"),
    "split's description": at("splits.train", "description = 5", "description", "5", "a string"),
    "split's parameters": at("splits.train", "parameters = 5", "parameters", "5", "a table"),
    "split's operands": at("splits.train.parameters", "operands = 5", "operands", "5", "a list"),
    "split's weight": at("splits.train.parameters.operators", 'add = "x"', "add", "'x'", "a whole number"),
    "operands": arith("operands = 5", "operands", "5", "a list"),
    "operands of one": arith("operands = [5]", "operands", "[5]", "a list of two whole numbers"),
    "operands of floats": arith("operands = [0.0, 9.0]", "operands", "0.0", "two whole numbers, e.g. [0, 99]"),
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
    "pool": compare("pool = 1", "pool", "1", "a string"),
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
    "form": top('form = "any"', "form", "'any'", "value, relation, answer, argument, words, free"),
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
    "stack: nothing after a word": _stack(
        'stack_words = { swap = 1 }\nheld_out = ["swap swap"]', "stack_words", "after 'swap'"
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
    "without an id": ('base = "Cadmus-Arith-v0"', ["'id'", "missing"]),
    "a mistake on top of it": (
        'base = "Cadmus-Arith-v0"\nid = "My-v0"\n[episode]\ntokens = 1',
        ["[episode]", "'tokens'"],
    ),
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
def test_error_says_where_and_what_is_allowed(write: Any, text: str, parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^my\.toml") as raised:
        cg.load_spec(write(text))
    message = str(raised.value)
    assert [part for part in parts if part not in message] == [], message


def test_completion_room_includes_worked_steps_if_there_are_any() -> None:
    arith = cg.load_spec("Cadmus-Arith-v0")
    answer = cg.load_spec("Cadmus-Arith-v0", thoughts={"share": 0.0}).completion_room
    assert answer == cg.load_spec("Cadmus-Arith-v0", thoughts={"style": "none"}).completion_room
    assert answer == cg.load_spec("Cadmus-Arith-v0", thoughts={"share": 0.0, "limit": 4000}).completion_room
    assert arith.completion_room == answer + arith.thoughts.limit
    assert cg.load_spec("Cadmus-Arith-v0", thoughts={"share": 0.01, "limit": 20}).completion_room == answer + 20
    mix = cg.load_spec("Cadmus-Mix-v0", thoughts={"share": 0.0})
    assert mix.completion_room == max(part.completion_room for part, _ in mix.parts)
    assert mix.completion_room < cg.load_spec("Cadmus-Mix-v0").completion_room
    # the budget of an answer is then enough
    assert cg.load_spec("Cadmus-Arith-v0", thoughts={"share": 0.0}, episode={"max_tokens": answer, "thought_tokens": 0})
    with pytest.raises(ValueError, match=f"take up to {answer}"):
        cg.load_spec(
            "Cadmus-Arith-v0", thoughts={"share": 0.0}, episode={"max_tokens": answer - 1, "thought_tokens": 0}
        )


@pytest.mark.parametrize("id", ["", "no version!", "My Arith-v0", "/My-Arith-v0"])
def test_invalid_id_is_rejected(write: Any, registry: None, id: str) -> None:
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
def test_valid_boundaries_are_accepted(write: Any, text: str) -> None:
    spec = cg.load_spec(write(text))
    for split in spec.splits:
        programs, _ = cg.Stream(spec, split).batch(0, 50)
        assert not cg.run_batch(programs)[0].any()


def test_missing_file_raises_file_not_found_error(tmp_path: Path) -> None:
    for ask in (cg.load_spec, cg.register):
        with pytest.raises(FileNotFoundError):
            ask(tmp_path / "nowhere.toml")
