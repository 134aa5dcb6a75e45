"""Families of true programs: each writes prompts from random numbers; the machine adds answers and worked steps."""

from cadmus_gym.tasks.arith import ARITH
from cadmus_gym.tasks.branch import BRANCH
from cadmus_gym.tasks.compare import COMPARE
from cadmus_gym.tasks.family import Family
from cadmus_gym.tasks.function import FUNCTION
from cadmus_gym.tasks.logic import LOGIC
from cadmus_gym.tasks.loop import LOOP
from cadmus_gym.tasks.register import REGISTER
from cadmus_gym.tasks.solving import ANSWER_ROOMS, STYLES
from cadmus_gym.tasks.stack import STACK_FAMILY

TASKS: dict[str, Family] = {
    family.name: family for family in (ARITH, COMPARE, LOGIC, STACK_FAMILY, REGISTER, BRANCH, LOOP, FUNCTION)
}

__all__ = ["ANSWER_ROOMS", "STYLES", "TASKS", "Family"]
