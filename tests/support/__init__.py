"""Support for tests: a second interpreter, generated programs, worked steps, and episodes."""
