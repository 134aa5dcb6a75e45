"""Which constructs of the language a prompt needs: the share of prompts still answered right if one is ignored.

A score says something about a construct only if prompts need it. Nine tenths of an environment's prompts must need the
construct it is named after, so that ignoring it answers at most one in ten. If there are only two answers, half of the
rest is right by chance. `NAMED` lists these constructs, and tests hold the ceilings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.evaluation.truth import EVALUATION_SEED, prompts_of
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, Tokens
from cadmus_gym.streams.spec import Spec
from cadmus_gym.tasks.ablations import ABLATIONS, PLACES, answers
from cadmus_gym.tasks.literals import COMMA
from cadmus_gym.tasks.shortcuts import COMPARE, OUTER

# What the environments of a task are named after; `Family.needs` is part of it too.
NAMED: Mapping[str, tuple[str, ...]] = {
    "arith": ("first of last", "second of last"),
    "branch": ("conditions always", "conditions never"),
    "compare": (OUTER,),
    "function": ("no recursion", "one call", "no call"),
    "logic": ("relations 0", "relations 1", "and for all", "or for all", "xor for all"),
    "loop": ("one turn", "one turn of times", "no turn"),
    "register": ("one register", "no registers"),
    "stack": ("no order words", "no stack words"),
}
NEEDED = 0.9  # share of the prompts
CEILINGS = {"value": 1 - NEEDED, "relation": 1 - NEEDED / 2}  # by the form of the family


def named_of(spec: Spec) -> tuple[str, ...]:
    """Return the ablations that ignore what an environment, not a mixture, is named after."""
    return tuple(dict.fromkeys((*NAMED.get(spec.task, ()), *spec.family.needs)))


def ignored(spec: Spec, count: int, seed: int = EVALUATION_SEED) -> dict[str, dict[str, float]]:
    """Return, by ablation and split, the share of ``count`` prompts that are still answered right.

    The ablations of what the environment is named after come first. Then come all `ABLATIONS` of words in its prompts
    and, if these are two numbers and a relation, all shortcuts of `COMPARE`. An ablation that is right on exactly the
    same prompts as an earlier one is left out. Raises ValueError for a mixture; use its parts.
    """
    named = named_of(spec)
    asked = {split: prompts_of(spec, split, count, seed) for split in spec.splits}
    right = {split: answers(*prompts)[0] for split, prompts in asked.items()}
    shares: dict[str, dict[str, float]] = {}
    seen: set[bytes] = set()
    for name in dict.fromkeys((*named, *present(prompts for prompts, _ in asked.values()))):
        hits = {split: answers_without(name, *prompts) == right[split] for split, prompts in asked.items()}
        whole = np.concatenate(list(hits.values())).tobytes()
        if whole not in seen or name in named:
            shares[name] = {split: float(of.mean()) for split, of in hits.items()}
        seen.add(whole)
    return shares


NO_ANSWER = -(2**63)  # a value that no run leaves


def answers_without(name: str, prompts: Tokens, lengths: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the answers (N,) to prompts (N, P) with these lengths under an ablation; `NO_ANSWER` if there is none."""
    if name in COMPARE:
        return COMPARE[name](prompts, lengths)
    found, ran = answers(prompts, lengths, name)
    return np.where(ran, found, NO_ANSWER)


def present(all_prompts: Iterable[Tokens]) -> list[str]:
    """Return the ablations whose words occur in prompts, arrays (N, P), those with the fewest words first."""
    prompts = list(all_prompts)
    tokens = {int(token) for some in prompts for token in np.unique(some)}
    words = {name: {word for place in PLACES for word in getattr(one, place)} for name, one in ABLATIONS.items()}
    names = [name for name in words if any(ID[word] in tokens for word in words[name])]
    names.sort(key=lambda name: len(words[name]))
    return names + (list(COMPARE) if all(compares(some) for some in prompts) else [])


def compares(prompts: Tokens) -> bool:
    """Whether all prompts (N, P) are two non-negative numbers and a relation."""
    digits, commas = (prompts >= op.ZERO) & (prompts <= op.NINE), prompts == COMMA
    relations = (prompts >= op.EQ) & (prompts <= op.GE)
    lengths = (prompts > 0).sum(1)
    last = relations[np.arange(len(prompts)), lengths - 1]
    return bool((last & (commas.sum(1) == 1) & (digits.sum(1) == lengths - 2)).all())


def meaning_of(name: str) -> str:
    """Say what an ablation ignores."""
    return ABLATIONS[name].meaning if name in ABLATIONS else "nothing else of the two numbers is compared"
