"""Task families: each writes prompts from random numbers, and the machine adds answers and worked steps.

Families in which the agent writes a program also write a reference (`cadmus_gym.tasks.synthesis`).
"""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from cadmus_gym.tasks.ablations import number_of
from cadmus_gym.tasks.family import Choices, Family, writer
from cadmus_gym.tasks.solving import ANSWER_ROOMS, LEAST_THOUGHT, STYLES
from cadmus_gym.tasks.synthesis.arrange import ARRANGE
from cadmus_gym.tasks.synthesis.countdown import COUNTDOWN
from cadmus_gym.tasks.synthesis.induce import INDUCE
from cadmus_gym.tasks.synthesis.instruct import INSTRUCT
from cadmus_gym.tasks.synthesis.solve import SOLVE
from cadmus_gym.tasks.synthesis.sort import SORT
from cadmus_gym.tasks.synthesis.thinking import WRITTEN_STYLES
from cadmus_gym.tasks.values.arith import ARITH
from cadmus_gym.tasks.values.branch import BRANCH
from cadmus_gym.tasks.values.compare import COMPARE
from cadmus_gym.tasks.values.function import FUNCTION
from cadmus_gym.tasks.values.logic import LOGIC
from cadmus_gym.tasks.values.loop import LOOP
from cadmus_gym.tasks.values.register import REGISTER
from cadmus_gym.tasks.values.stack import STACK_FAMILY

TASKS: dict[str, Family] = {
    family.name: family
    for family in (
        *(ARITH, COMPARE, LOGIC, STACK_FAMILY, REGISTER, BRANCH, LOOP, FUNCTION),
        *(INDUCE, INSTRUCT, SOLVE, ARRANGE, COUNTDOWN, SORT),
    )
}


def styles_of(family: Family) -> tuple[str, ...]:
    """Return the styles of worked steps that the programs of a family can have; the first is "none"."""
    if family.form == "words":
        return WRITTEN_STYLES
    return STYLES[:1] if family.written else STYLES


def find_family(task: str, folders: Iterable[Path] = ()) -> Family:
    """Return a family by its name, or by ``"module:attribute"``; the module is searched in ``folders`` first.

    Raises ValueError for an unknown family, or one that cannot be imported.
    """
    if ":" not in task:
        if task not in TASKS:
            raise ValueError(f"task = {task!r}: known are {', '.join(TASKS)}, or give 'module:attribute'")
        return TASKS[task]
    module, _, attribute = task.partition(":")
    try:
        found = getattr(_module(module, folders), attribute)
    except Exception as error:  # importing runs the user's own code
        raise ValueError(f"task = {task!r}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Family):
        raise ValueError(f"task = {task!r}: expected a cadmus_gym.tasks.Family, not {type(found).__name__}")
    for name in found.needs:
        try:
            number_of(name)
        except ValueError as error:
            raise ValueError(f"task = {task!r}: needs: {error}") from None
    return found


def _module(name: str, folders: Iterable[Path]) -> ModuleType:
    """Import a module from the first folder that has it, otherwise from ``sys.path``."""
    stem = Path(*name.split("."))
    for folder in folders:
        places = (folder / stem.with_suffix(".py"), folder / stem / "__init__.py")
        place = next((place.resolve() for place in places if place.is_file()), None)
        if place is None:
            continue
        sys.path.insert(0, str(folder))
        try:
            importlib.invalidate_caches()
            module = importlib.import_module(name)
        finally:
            sys.path.remove(str(folder))
        if module.__file__ is None or Path(module.__file__).resolve() != place:
            raise ImportError(f"{place} is hidden by another module named {name}, {module.__file__}; rename yours")
        return module
    return importlib.import_module(name)


__all__ = [
    "ANSWER_ROOMS",
    "LEAST_THOUGHT",
    "STYLES",
    "TASKS",
    "Choices",
    "Family",
    "find_family",
    "styles_of",
    "writer",
]
