"""Cadmus Gym: program synthesis and reinforcement learning with rewards that a machine verifies."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cadmus_gym.env import CadmusEnv
from cadmus_gym.episodes import State
from cadmus_gym.evaluate import Evaluation, evaluate, find_loopholes
from cadmus_gym.isa import VOCABULARY, assemble, decode, disassemble, encode
from cadmus_gym.machine import Outcome, Step, Verdict, run, run_batch, trace
from cadmus_gym.registration import register, register_all
from cadmus_gym.spec import SPECS, Spec, load_spec
from cadmus_gym.stream import Stream
from cadmus_gym.vector_env import CadmusVectorEnv

if TYPE_CHECKING:
    from cadmus_gym.checkpoint import load_model, save_model
    from cadmus_gym.dataset import StreamDataset
    from cadmus_gym.generate import Completions, complete
    from cadmus_gym.model import ModelConfig, Transformer
    from cadmus_gym.trained import Trained

__version__ = "0.1.0"

# What needs torch is imported when it is first asked for: `import cadmus_gym` stays quick, and works without torch.
_LAZY = {
    "Completions": "generate",
    "ModelConfig": "model",
    "StreamDataset": "dataset",
    "Trained": "trained",
    "Transformer": "model",
    "complete": "generate",
    "load_model": "checkpoint",
    "save_model": "checkpoint",
}

__all__ = [
    "SPECS",
    "VOCABULARY",
    "CadmusEnv",
    "CadmusVectorEnv",
    "Completions",
    "Evaluation",
    "ModelConfig",
    "Outcome",
    "Spec",
    "State",
    "Step",
    "Stream",
    "StreamDataset",
    "Trained",
    "Transformer",
    "Verdict",
    "assemble",
    "complete",
    "decode",
    "disassemble",
    "encode",
    "evaluate",
    "find_loopholes",
    "load_model",
    "load_spec",
    "register",
    "run",
    "run_batch",
    "save_model",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


register_all()
