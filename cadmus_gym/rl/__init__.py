"""Reinforcement learning with other libraries: policies and rewards."""
