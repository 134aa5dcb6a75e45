"""Settings and fixtures of the whole suite."""

import math
import os
from collections.abc import Iterator

import gymnasium
import pytest
from hypothesis import settings

import cadmus_gym as cg
from cadmus_gym.language import kernels

# In CI the examples of property tests are the same each time, so that a failure can be repeated.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("repeatable")

kernels.LONG = math.inf  # no notice of compiling, whichever test is first


@pytest.fixture
def registry() -> Iterator[None]:
    """Restore the registries after a test."""
    specs, known = dict(cg.SPECS), dict(gymnasium.registry)
    yield
    cg.SPECS.clear()
    cg.SPECS.update(specs)
    gymnasium.registry.clear()
    gymnasium.registry.update(known)
