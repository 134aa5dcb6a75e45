"""What several tests need: a second interpreter, programs of all kinds, worked steps done by hand."""
