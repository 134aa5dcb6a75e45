"""The sizes of a transformer, known without PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a transformer over the 65 tokens. The defaults have 1.0M parameters.

    Raises ValueError, naming field, value and what is allowed.
    """

    width: int = 128  # of the residual stream
    layers: int = 5
    heads: int = 4
    key_value_heads: int | None = None  # None: as many as heads; fewer: grouped-query attention
    hidden: int = 0  # of the SwiGLU; 0: 8/3 of the width, in whole eights: as large as an MLP of 4 times the width
    context: int = 512  # positions, `<bos>` included
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tied: bool = True  # whether the output layer is the embedding

    def __post_init__(self) -> None:
        if self.key_value_heads is None:
            object.__setattr__(self, "key_value_heads", self.heads)
        if self.hidden == 0 and type(self.width) is int:
            object.__setattr__(self, "hidden", -(-self.width // 3) * 8)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "tied":
                _require(type(value) is bool, field.name, value, "True or False")
            elif field.name in ("rope_theta", "norm_eps"):
                number = type(value) in (int, float) and 0 < value < math.inf
                _require(number, field.name, value, "a finite number above 0")
                object.__setattr__(self, field.name, float(value))
            else:
                _require(type(value) is int and value > 0, field.name, value, "an integer above 0")
        even = self.width % (2 * self.heads) == 0
        _require(even, "heads", self.heads, f"divisors of width = {self.width} that give heads of even width (rotary)")
        whole = self.heads % self.groups == 0
        _require(whole, "key_value_heads", self.groups, f"a divisor of heads = {self.heads}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def groups(self) -> int:
        """The number of key-value heads."""
        return self.key_value_heads or self.heads


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"ModelConfig: {name} = {value!r}; allowed: {allowed}")
