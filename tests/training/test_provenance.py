"""The hardware that a result names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cadmus_gym.training import provenance

X86 = """processor\t: 0
model name\t: A Processor @ 2.0GHz
flags\t\t: fpu sse avx2 avx512f amx_bf16
processor\t: 1
model name\t: A Processor @ 2.0GHz
flags\t\t: fpu sse avx2 avx512f amx_bf16
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 crc32\n"


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        (X86, "A Processor @ 2.0GHz", ["avx2", "avx512f", "amx_bf16"]),
        (ARM, None, ["asimd", "bf16"]),
        (None, None, None),
    ],
)
def test_hardware_lists_the_features_that_decide_the_speed_of_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, name: str | None, features: list[str] | None
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
    found = provenance.hardware()
    assert found["cpu"] == (name or provenance.platform.machine())
    assert found.get("features") == features


def test_hardware_names_the_instructions_of_pytorch_if_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert provenance.hardware()["capability"] == torch.backends.cpu.get_cpu_capability()
    monkeypatch.delitem(sys.modules, "torch")
    assert "capability" not in provenance.hardware()
