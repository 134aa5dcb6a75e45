"""What is needed to reproduce a result: command, settings, commit, hardware, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from cadmus_gym.training.scripts import as_module

PACKAGES = ("cadmus-gym", "numpy", "numba", "gymnasium", "torch", "stable-baselines3", "sb3-contrib")
CPUINFO = Path("/proc/cpuinfo")
# CPU features that decide how fast products are in float32 and bfloat16, by their names in /proc/cpuinfo (x86, ARM).
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve", "svebf16")


def recipe(settings: Any) -> dict[str, Any]:
    """Return the recipe of a run of the current script, ready for JSON. ``settings`` is a dataclass or a dict."""
    values = asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else dict(settings)
    script = Path(sys.argv[0])
    return {
        "command": shlex.join(["python", *(as_module(script) or [_shown(script)]), *sys.argv[1:]]),
        "settings": {key: _shown(value) if isinstance(value, Path) else value for key, value in values.items()},
        "commit": commit(),
        "hardware": hardware(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def _shown(path: Path) -> str:
    """Return a path relative to the checkout if it lies inside, so that cards do not reveal home folders."""
    top = Path(__file__).resolve().parents[2]
    return path.resolve().relative_to(top).as_posix() if path.resolve().is_relative_to(top) else path.as_posix()


def commit() -> str:
    """Return the commit of the package's checkout, followed by "+" if files differ from it, or "unknown"."""
    here = Path(__file__).resolve().parents[1]
    if shutil.which("git") is None:
        return "unknown"

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    if not (here.parent / "pyproject.toml").is_file():  # an installed package, maybe inside another repository
        return "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


def hardware() -> dict[str, Any]:
    """Return the name of the processor, its number of cores and, if the system lists them, its `FEATURES`.

    If torch is loaded, also the instructions that PyTorch uses ("capability") and the name of the GPU.
    """
    lines = CPUINFO.read_text("utf-8").splitlines() if CPUINFO.exists() else []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    found: dict[str, Any] = {"cpu": said.get("model name", platform.machine()), "cores": os.cpu_count()}
    flags = said.get("flags", said.get("Features", "")).split()  # on x86, on ARM
    if flags:
        found["features"] = [name for name in FEATURES if name in flags]
    torch = sys.modules.get("torch")
    if torch is not None:
        found["capability"] = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
