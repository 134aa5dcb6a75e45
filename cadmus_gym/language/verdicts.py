"""The verdicts on a program, and the limits it runs under."""

from __future__ import annotations

from enum import IntEnum


class Verdict(IntEnum):
    """The verdict on a program; only TRUE is success."""

    TRUE = 0
    FALSE = 1
    SYNTAX = 2
    UNTERMINATED = 3
    DIRECTIVE = 4
    STACK_UNDERFLOW = 5
    STACK_OVERFLOW = 6
    VALUE_OVERFLOW = 7
    DIVISION_BY_ZERO = 8
    CONTROL_OVERFLOW = 9
    STEP_LIMIT = 10


LARGEST = 2147483647  # the largest magnitude of a value
STACK_ROOM = 64
FRAME_ROOM = 64
STEPS = 1024
BLOCK_DEPTH = 16
MAX_DIRECTIVES = 8
MAX_CASES = 16
MAX_SIDE = 8  # the most integers on one side of a case

# Plain ints, since Numba compiles them in as constants but looks enum members up.
TRUE, FALSE, SYNTAX, UNTERMINATED = (int(Verdict[v]) for v in ("TRUE", "FALSE", "SYNTAX", "UNTERMINATED"))
DIRECTIVE, STEP_LIMIT = int(Verdict.DIRECTIVE), int(Verdict.STEP_LIMIT)
STACK_UNDERFLOW, STACK_OVERFLOW = int(Verdict.STACK_UNDERFLOW), int(Verdict.STACK_OVERFLOW)
VALUE_OVERFLOW, DIVISION_BY_ZERO = int(Verdict.VALUE_OVERFLOW), int(Verdict.DIVISION_BY_ZERO)
CONTROL_OVERFLOW = int(Verdict.CONTROL_OVERFLOW)
RAN = -1  # `execute` reached `end`
UNPREPARED = -2  # `execute` reached a token that needs `prepare`
