"""Named points of a model's computation, at which activations can be read and edited."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn


class Hook(nn.Identity):
    """A named point of the computation: an identity that takes forward hooks."""


class Hooked(nn.Module):
    """A model with hook points."""

    def hook_points(self) -> list[str]:
        """Return the names of all hook points, such as "layers.0.residual_between", layer by layer.

        Each layer has residual_before, self_attn.pattern, self_attn.mixed, residual_between, mlp.activation and
        residual_after; `cadmus_gym.transformer.model` gives their shapes.
        """
        return [name for name, module in self.named_modules() if isinstance(module, Hook)]

    @contextmanager
    def hooked(self, actions: Mapping[str, Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
        """Within this context, call ``actions[name]`` with the value at each named point.

        If it returns a tensor, that replaces the value. A name is one of `hook_points`, or that of any submodule that
        returns one tensor ("layers.0.self_attn.q_proj"). Raises ValueError for an unknown name.

            seen = []
            with model.hooked({"layers.1.residual_after": seen.append, "layers.0.mlp": torch.zeros_like}):
                model(tokens)
        """
        modules = dict(self.named_modules())
        if unknown := [name for name in actions if name not in modules]:
            raise ValueError(f"no hook point {unknown[0]!r}; known: {', '.join(self.hook_points())}")
        with ExitStack() as stack:
            for name, action in actions.items():
                stack.enter_context(
                    modules[name].register_forward_hook(lambda _module, _inputs, value, act=action: act(value))
                )
            yield
