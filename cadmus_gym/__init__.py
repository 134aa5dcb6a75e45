"""Cadmus Gym: program synthesis and reinforcement learning with rewards that a machine verifies."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cadmus_gym.environments.episodes import State
from cadmus_gym.environments.registration import register, register_all
from cadmus_gym.environments.single import CadmusEnv
from cadmus_gym.environments.vector import CadmusVectorEnv
from cadmus_gym.evaluation.loopholes import find_loopholes
from cadmus_gym.evaluation.truth import Evaluation, evaluate
from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.language.machine import Outcome, Step, run, run_batch, trace
from cadmus_gym.language.notation import assemble, decode, disassemble, encode
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.streams.loading import SPECS, load_spec
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream

if TYPE_CHECKING:
    from cadmus_gym.evaluation.completing import complete
    from cadmus_gym.evaluation.trained import Trained
    from cadmus_gym.streams.dataset import StreamDataset
    from cadmus_gym.transformer.checkpoint import load_model, save_model
    from cadmus_gym.transformer.generate import Completions
    from cadmus_gym.transformer.model import ModelConfig, Transformer

__version__ = "0.1.0"

# What needs torch is imported when it is first asked for: `import cadmus_gym` stays quick, and works without torch.
_LAZY = {
    "Completions": "transformer.generate",
    "ModelConfig": "transformer.model",
    "StreamDataset": "streams.dataset",
    "Trained": "evaluation.trained",
    "Transformer": "transformer.model",
    "complete": "evaluation.completing",
    "load_model": "transformer.checkpoint",
    "save_model": "transformer.checkpoint",
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
