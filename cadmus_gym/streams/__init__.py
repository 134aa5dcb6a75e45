"""Streams of true programs: specs, the programs they define, and the probability of every program."""
