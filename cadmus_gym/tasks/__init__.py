"""Families of true programs: each writes one program from random numbers and says where its prompt ends."""

from cadmus_gym.tasks.arith import ARITH
from cadmus_gym.tasks.compare import COMPARE
from cadmus_gym.tasks.family import Family

TASKS: dict[str, Family] = {family.name: family for family in (ARITH, COMPARE)}

__all__ = ["TASKS", "Family"]
