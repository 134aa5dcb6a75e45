"""Cadmus Gym: program synthesis and reinforcement learning with rewards that a machine verifies."""

from cadmus_gym.env import CadmusEnv
from cadmus_gym.episodes import State
from cadmus_gym.isa import VOCABULARY, assemble, decode, disassemble, encode
from cadmus_gym.machine import Outcome, Step, Verdict, run, run_batch, trace
from cadmus_gym.registration import register, register_all
from cadmus_gym.spec import SPECS, Spec, load_spec
from cadmus_gym.stream import Stream
from cadmus_gym.vector_env import CadmusVectorEnv

__all__ = [
    "SPECS",
    "VOCABULARY",
    "CadmusEnv",
    "CadmusVectorEnv",
    "Outcome",
    "Spec",
    "State",
    "Step",
    "Stream",
    "Verdict",
    "assemble",
    "decode",
    "disassemble",
    "encode",
    "load_spec",
    "register",
    "run",
    "run_batch",
    "trace",
]

register_all()
