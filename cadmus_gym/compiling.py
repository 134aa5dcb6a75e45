"""How kernels are compiled: one decorator, one cache folder that can never hold stale machine code.

Numba's own cache looks at the file of the cached function only, so a cached caller keeps the old code of a callee that
was inlined from another file, and a warm cache ignores a change of flags. Here the folder's name is a hash of all
kernel sources, the Numba version and the flags: whatever changes, a new folder is used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

PACKAGE = Path(__file__).parent


@functools.cache
def cache_folder() -> Path:
    """Return the folder of compiled kernels: below ``$CADMUS_GYM_CACHE``, the package, or the user's cache folder."""
    digest = hashlib.sha256(f"{numba.__version__} boundscheck={numba.config.BOUNDSCHECK}".encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_bytes()
        if b"import kernel" in source or b"kernel\n" in source or path.name == "isa.py":
            digest.update(source)
    name = f"kernels-{digest.hexdigest()[:16]}"
    if "CADMUS_GYM_CACHE" in os.environ:
        return Path(os.environ["CADMUS_GYM_CACHE"]) / name
    if os.access(PACKAGE, os.W_OK):
        return PACKAGE / "__pycache__" / name
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cadmus_gym" / name


@contextlib.contextmanager
def caching() -> Iterator[None]:
    """Let what Numba is given to compile in here be cached in `cache_folder`, and nothing of anybody else's."""
    folder = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder())
    try:
        yield
    finally:
        numba.config.CACHE_DIR = folder


def kernel(function: Function, reassociate: bool = False) -> Function:
    """Compile a function with Numba: cached, without the GIL, without allocation, division without exceptions.

    ``reassociate``: sums of floats may be added up in any order, as it takes to add several terms at once.
    """
    # Without Numba's runtime a kernel cannot allocate, and counts no references: five times as fast on short programs,
    # where each view of a row was counted up and down atomically.
    options = {"error_model": "numpy", "fastmath": {"reassoc", "contract"} if reassociate else False, "_nrt": False}
    with caching():
        return cast(Function, numba.njit(nogil=True, cache=True, **options)(function))
