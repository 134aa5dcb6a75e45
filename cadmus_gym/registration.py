"""Registration of environments with Gymnasium: ours on import, a user's own from any TOML file."""

from __future__ import annotations

from pathlib import Path

import gymnasium

from cadmus_gym.spec import FOLDER, SPECS, Spec, read_spec


def register(path: str | Path) -> Spec:
    """Register the environment in a TOML file under the id it states, for `gymnasium.make`, `load_spec` and all else.

    Registering the same id again replaces it. Raises ValueError for a mistake in the file, FileNotFoundError for none.
    """
    file = Path(path).resolve()
    spec = read_spec(file)
    ours = file.parent == FOLDER.resolve()
    try:
        gymnasium.envs.registration.parse_env_id(spec.id)
    except gymnasium.error.Error as error:
        raise ValueError(f"{file.name} id = {spec.id!r}: {error}") from None
    SPECS[spec.id] = file
    gymnasium.envs.registration.registry.pop(spec.id, None)
    gymnasium.register(
        spec.id,
        entry_point="cadmus_gym.env:CadmusEnv",
        vector_entry_point="cadmus_gym.vector_env:CadmusVectorEnv",
        # Plain text, so that the EnvSpec goes through JSON; a user's file by its path, so that another process finds
        # it.
        kwargs={"spec": spec.id if ours else str(file)},
    )
    return spec


def register_all() -> None:
    """Register every environment that ships."""
    paths = sorted(FOLDER.glob("*.toml"))
    for path in sorted(paths, key=lambda path: "[mixture]" in path.read_text("utf-8")):  # mixtures behind their parts
        register(path)
