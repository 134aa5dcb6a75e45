"""Registration of environments with Gymnasium: the package's on import, a user's from any TOML file."""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium

from cadmus_gym.streams.loading import FOLDER, SPECS, read_spec
from cadmus_gym.streams.spec import Spec


def register(path: str | Path) -> Spec:
    """Register the environment in a TOML file under its id, for `gymnasium.make`, `load_spec` and everything else.

    Registering an id again replaces it, except for the package's ids. Raises ValueError for a mistake in the file, and
    FileNotFoundError if there is none.
    """
    file = Path(os.path.realpath(path))
    spec = read_spec(file)
    ours = file.parent == FOLDER.resolve()
    if not ours and spec.id in SPECS and SPECS[spec.id].parent == FOLDER.resolve():
        raise ValueError(f"{file.name}: id = {spec.id!r}: the package has an environment of this id; choose another")
    try:
        gymnasium.envs.registration.parse_env_id(spec.id)
    except gymnasium.error.Error as error:
        raise ValueError(f"{file.name}: id = {spec.id!r}: {error}") from None
    before = SPECS.get(spec.id)
    SPECS[spec.id] = file
    try:
        read_spec(file)  # once registered, it could be its own base or part
    except ValueError:
        del SPECS[spec.id]
        SPECS.update({} if before is None else {spec.id: before})
        raise
    gymnasium.envs.registration.registry.pop(spec.id, None)
    gymnasium.register(
        spec.id,
        entry_point="cadmus_gym:CadmusEnv",
        vector_entry_point="cadmus_gym:CadmusVectorEnv",
        # Plain values, so that the EnvSpec survives JSON. A user's spec is stored whole, so that another process
        # needs neither its file nor its registration.
        kwargs={"spec": spec.id if ours else spec.table()},
    )
    return spec


def register_all() -> None:
    """Register every environment of the package."""
    paths = sorted(FOLDER.glob("*.toml"))
    for path in sorted(paths, key=lambda path: "[mixture]" in path.read_text("utf-8")):  # mixtures after their parts
        register(path)
