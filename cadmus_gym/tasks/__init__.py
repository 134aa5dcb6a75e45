"""Families of true programs: each writes prompts from random numbers; the machine adds answers and worked steps."""

from cadmus_gym.tasks.arith import ARITH
from cadmus_gym.tasks.compare import COMPARE
from cadmus_gym.tasks.family import Family
from cadmus_gym.tasks.solving import ANSWER_ROOMS, STYLES

TASKS: dict[str, Family] = {family.name: family for family in (ARITH, COMPARE)}

__all__ = ["ANSWER_ROOMS", "STYLES", "TASKS", "Family"]
