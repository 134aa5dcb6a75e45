"""Settings of the whole suite."""

import math
import os

from hypothesis import settings

from cadmus_gym.language import kernels

# In CI the examples of property tests are the same each time, so that a failure can be repeated.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("repeatable")

kernels.LONG = math.inf  # which test meets a cold cache first is no test's business
