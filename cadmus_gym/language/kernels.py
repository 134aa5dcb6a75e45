"""Compiling kernels with Numba, and caching the compiled code.

Numba's own cache checks only the file of the cached function. A cached caller keeps the old code of a callee inlined
from another file, changed flags are ignored, and if a folder is not writable Numba silently uses another. So the
package has its own cache. A file holds one function for one signature, and its name is a hash of everything compiled
into it: sources, flags, versions and processor. The cache is optional: unreadable files are ignored, and if no folder
is writable, each process compiles its kernels.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import re
import stat
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core.ccallback import CFunc
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from cadmus_gym.files import atomic

Function = TypeVar("Function", bound=Callable[..., object])

PACKAGE = Path(__file__).parents[1]
LONG = 1.0  # seconds of compiling before a message is printed
ANNOUNCED, QUIET = "announced", 3600.0  # the file written with the message, and seconds before it is printed again

# Without Numba's runtime a kernel can neither allocate nor count references. That is five times as fast on short
# programs, where every view of a row was counted atomically.
_OPTIONS = {"nopython": True, "error_model": "numpy", "_nrt": False}
_VERSIONED = {*sys.stdlib_module_names, "numba", "numpy"}  # identified by their versions
_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes)
_CALLABLE = (type, types.FunctionType, types.BuiltinFunctionType, np.ufunc, type(np.where))
_CHECKSUM = hashlib.sha256().digest_size


def kernel(function: Function, reassociate: bool = False) -> Function:
    """Compile a function with Numba: cached, without the GIL, without allocation, with division that never raises.

    ``reassociate`` allows sums of floats in any order, so that they can be vectorized.
    """
    options = {**_OPTIONS, "fastmath": {"reassoc", "contract"} if reassociate else False}
    compiled: Any = numba.jit(nogil=True, **options)(function)
    if not numba.config.DISABLE_JIT:  # with which Numba returns the plain function
        compiled._cache = Cache(function, "kernel that reassociates" if reassociate else "kernel")
        compiled.get_call_template = functools.partial(_call_template, compiled)
    return cast(Function, compiled)


def _call_template(compiled: Any, args: Iterable[Any], kws: dict[str, Any]) -> Any:
    """Resolve a call from another kernel, with constant integers as plain ones.

    Numba would compile ``compiled`` again for each constant, which takes a third of all compiling. Constant bools stay:
    each is an option that removes a part of the code.
    """

    def plain(given: Any) -> Any:
        return numba.types.unliteral(given) if isinstance(given, numba.types.IntegerLiteral) else given

    args, kws = tuple(map(plain, args)), {name: plain(given) for name, given in kws.items()}
    return Dispatcher.get_call_template(compiled, args, kws)


def callback(function: Function, signature: Any) -> Function:
    """Compile a function to a plain function pointer of this Numba signature, or load it from the cache."""
    compiled: Any = CFunc(function, normalize_signature(signature), {}, dict(_OPTIONS))
    compiled._cache = Cache(function, "callback")
    compiled.compile()
    return cast(Function, compiled)


class Cache:
    """The cached code of one function, by signature; Numba calls its methods."""

    cache_path = None

    def __init__(self, function: Callable[..., object], kind: str) -> None:
        self.function, self.kind = function, kind

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the code for a signature, or None if it has to be compiled."""
        target.refresh()
        name = self._name(signature, target.codegen())
        for folder in folders() if name else []:
            data = _read(folder / cast(str, name))
            if data is not None:
                with contextlib.suppress(Exception):  # of unpickling code that other library versions wrote
                    return CompileResult._rebuild(target, *pickle.loads(data))
        _progress.begin(self)
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Save code that was just compiled."""
        _progress.end(self)
        name = self._name(signature, compiled.codegen)
        if name and not compiled.library.has_dynamic_globals:
            _write(name, dumps(compiled._reduce()))

    def flush(self) -> None:
        """Called before a recompilation. Cached files never go stale, so there is nothing to do."""

    def _name(self, signature: Any, codegen: Any) -> str | None:
        """The name of the cache file, or None if the code's ingredients are not all known."""
        title = f"{self.function.__module__}.{self.function.__qualname__}"
        config, versions = numba.config, (numba.__version__, np.__version__, sys.version)
        flags = config.BOUNDSCHECK, int(config.OPT), config.DEBUGINFO_DEFAULT
        fields = list(_fields(getattr(signature, "args", signature)))
        setting = repr((self.kind, _OPTIONS, flags, versions, codegen.magic_tuple(), signature, fields))
        if " at 0x" in setting:  # an argument is a function
            return None
        try:
            parts = list(ingredients(self.function))
        except TypeError as error:
            _say(f"{title} is compiled in each process: it refers to {error}, whose content is unknown")
            return None
        digest = hashlib.sha256(repr((setting, parts)).encode()).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9_.]', '', title)[-80:]}-{digest[:32]}.nbc"


def _fields(arguments: Iterable[Any]) -> Iterator[tuple[str, ...]]:
    """Yield the field names of all NamedTuples among the types of arguments; Numba's names of types leave them out."""
    for argument in arguments:
        if isinstance(argument, numba.types.BaseTuple):
            yield getattr(argument, "fields", ())
            yield from _fields(argument.types)


def ingredients(function: Callable[..., object]) -> Iterator[str]:
    """Yield everything compiled into a function: its bytecode and the values it refers to, and those of its callees.

    Docstrings, comments and line numbers are left out. Raises TypeError for a value whose content is unknown.
    """
    found: list[Any] = [function]  # functions, each referred to by its index
    entered = set()  # modules and the names looked up in them, since modules may refer to each other

    def contents(value: Any, names: tuple[str, ...]) -> Iterator[str]:
        kind = type(value)
        home = str(value.__name__ if kind is types.ModuleType else getattr(value, "__module__", "")).split(".")[0]
        yield f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(value, Dispatcher):
            if value.py_func not in found:
                found.append(value.py_func)
            yield f"{found.index(value.py_func)} {value.targetoptions}"
        elif kind in _PLAIN or isinstance(value, np.dtype | numba.types.Type):
            yield repr(value)
        elif isinstance(value, Enum):
            yield value.name
            yield from contents(value.value, names)
        elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            yield f"{value.dtype} {value.shape} {value.flags.c_contiguous} {value.flags.f_contiguous}"
            yield hashlib.sha256(value.tobytes()).hexdigest()
        elif isinstance(value, tuple | list):
            yield f"{len(value)} {getattr(value, '_fields', '')}"
            for item in value:
                yield from contents(item, names)
        elif kind is types.CodeType:
            yield from code(value, {})
        elif isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):  # a NamedTuple
            yield f"{value.__qualname__} {value._fields}"
        elif isinstance(value, type) and issubclass(value, Enum):
            for member in value:
                yield from contents(member, names)
        elif isinstance(value, np.ufunc) or (home in _VERSIONED and isinstance(value, (*_CALLABLE, types.ModuleType))):
            yield f"{home}.{getattr(value, '__qualname__', value.__name__)}"
        elif kind is types.ModuleType:  # whose attributes the code reads
            yield value.__name__
            for name in names if (value, names) not in entered else ():
                entered.add((value, names))
                if hasattr(value, name):
                    yield name
                    yield from contents(getattr(value, name), names)
        else:
            raise TypeError(repr(value))

    def code(body: types.CodeType, known: dict[str, Any], documented: bool = False) -> Iterator[str]:
        yield f"{body.co_code.hex()} {body.co_names} {body.co_varnames} {body.co_freevars} {body.co_flags}"
        for constant in body.co_consts[documented:]:
            yield from contents(constant, ())
        for name in body.co_names:
            if name in known:
                yield name
                yield from contents(known[name], body.co_names)

    for one in found:
        cells = (cell.cell_contents for cell in one.__closure__ or ())
        known = {**one.__globals__, **dict(zip(one.__code__.co_freevars, cells, strict=True))}
        yield from code(one.__code__, known, documented=one.__doc__ is not None)
        for name in one.__code__.co_freevars:
            yield from contents(known[name], one.__code__.co_names)
        yield from contents(one.__defaults__, ())


def folders() -> list[Path]:
    """Return the folders that are searched for compiled code; the first writable one is written to.

    They are ``$CADMUS_GYM_CACHE``, or one in ``$NUMBA_CACHE_DIR``, or else one in the package and one in the user's
    cache folder; last comes a temporary one.
    """
    given: list[Path] = []
    if os.environ.get("CADMUS_GYM_CACHE"):
        given.append(Path(os.environ["CADMUS_GYM_CACHE"]))
    elif numba.config.CACHE_DIR:
        given.append(Path(numba.config.CACHE_DIR) / "cadmus_gym")
    else:
        given.append(PACKAGE / "__pycache__" / "kernels")
        with contextlib.suppress(RuntimeError):  # of a user without a home folder
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            if home.is_absolute():
                given.append(home / "cadmus_gym")
    temporary = _temporary()
    return given if temporary is None else [*given, temporary]


def _temporary() -> Path | None:
    """This user's temporary folder, or None if there is none or others can write to it."""
    user = os.getuid() if os.name == "posix" else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"cadmus_gym-{user}"
    except OSError:
        return None
    try:
        about = folder.lstat()
    except OSError:  # it does not exist yet
        return folder
    own = os.name != "posix" or (about.st_uid == user and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return folder if own and stat.S_ISDIR(about.st_mode) else None


def _read(path: Path) -> bytes | None:
    """Return the content of a file, or None if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    checksum, data = data[:_CHECKSUM], data[_CHECKSUM:]
    return data if hashlib.sha256(data).digest() == checksum else None


def _write(name: str, data: bytes) -> None:
    """Write compiled code to the first writable folder."""
    places, temporary = folders(), _temporary()
    for folder in places:
        try:
            folder.mkdir(mode=0o700 if folder == temporary else 0o777, parents=True, exist_ok=True)
            with atomic(folder / name, cache=True) as file:
                file.write(hashlib.sha256(data).digest() + data)
        except OSError:
            continue
        if folder == temporary:
            _say(f"compiled kernels are stored in {folder} for now; set CADMUS_GYM_CACHE to a folder to keep them in")
        return
    _say("compiled kernels cannot be stored, so each process compiles them; set CADMUS_GYM_CACHE to a writable folder")


class _Progress:
    """Prints one message if compiling takes long. Numba holds a lock while it compiles."""

    def __init__(self) -> None:
        self.outermost: Cache | None = None  # the kernel being compiled, whose callees are compiled meanwhile
        self.began = self.spent = 0.0

    def begin(self, cache: Cache) -> None:
        if self.outermost in (None, cache):
            self.outermost, self.began = cache, time.monotonic()
        if self.spent + time.monotonic() - self.began > LONG:
            _announce()

    def end(self, cache: Cache) -> None:
        if cache is self.outermost:
            self.outermost = None
            self.spent += time.monotonic() - self.began


_progress = _Progress()


@functools.cache
def _announce() -> None:
    """Say that kernels are compiled, unless another process said so lately: the first commands each compile some."""
    for folder in folders():
        with contextlib.suppress(OSError):  # there is no such file
            if time.time() - (folder / ANNOUNCED).stat().st_mtime < QUIET:
                return
    _say("compiling kernels, once per installation; over the first commands this takes about a minute")
    _write(ANNOUNCED, b"")


@functools.cache
def _say(line: str) -> None:
    print(f"cadmus_gym: {line}", file=sys.stderr, flush=True)


def spread(work: Any, count: int, threads: int | None, least: int = 4096) -> None:
    """Call ``work(slice)`` for slices that cover ``range(count)``, on up to ``threads`` threads.

    Kernels release the GIL, so plain threads suffice. Unlike OpenMP's, they survive a fork of the process.
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ValueError(f"threads = {threads!r}: expected a whole number from 1, or None for one per processor")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(threads or available, count // least))
    if threads == 1:
        work(slice(0, count))
        return
    bounds = [count * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda k: work(slice(bounds[k], bounds[k + 1])), range(threads)))
