"""Cadmus Gym: program synthesis and reinforcement learning with rewards that a machine verifies."""

from cadmus_gym.isa import VOCABULARY, assemble, decode, disassemble, encode
from cadmus_gym.machine import Outcome, Step, Verdict, run, run_batch, trace

__all__ = [
    "VOCABULARY",
    "Outcome",
    "Step",
    "Verdict",
    "assemble",
    "decode",
    "disassemble",
    "encode",
    "run",
    "run_batch",
    "trace",
]
