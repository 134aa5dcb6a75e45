"""Families of true programs: each writes prompts from random numbers; the machine adds answers and worked steps."""

import importlib

from cadmus_gym.tasks.arith import ARITH
from cadmus_gym.tasks.branch import BRANCH
from cadmus_gym.tasks.compare import COMPARE
from cadmus_gym.tasks.family import Choices, Family, writer
from cadmus_gym.tasks.function import FUNCTION
from cadmus_gym.tasks.logic import LOGIC
from cadmus_gym.tasks.loop import LOOP
from cadmus_gym.tasks.register import REGISTER
from cadmus_gym.tasks.solving import ANSWER_ROOMS, STYLES
from cadmus_gym.tasks.stack import STACK_FAMILY

TASKS: dict[str, Family] = {
    family.name: family for family in (ARITH, COMPARE, LOGIC, STACK_FAMILY, REGISTER, BRANCH, LOOP, FUNCTION)
}


def find_family(task: str) -> Family:
    """Return the family of that name, or the one at ``"module:attribute"``.

    Raises ValueError where there is none, or it cannot be imported.
    """
    if ":" not in task:
        if task not in TASKS:
            raise ValueError(f"task = {task!r}: known are {', '.join(TASKS)}, or give 'module:attribute'")
        return TASKS[task]
    module, _, attribute = task.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"task = {task!r}: {error}") from None
    if not isinstance(found, Family):
        raise ValueError(f"task = {task!r}: expected a cadmus_gym.tasks.Family, not {type(found).__name__}")
    return found


__all__ = ["ANSWER_ROOMS", "STYLES", "TASKS", "Choices", "Family", "find_family", "writer"]
