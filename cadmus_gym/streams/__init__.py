"""Streams of true programs: what is asked, how it is written, and how likely every program is."""
