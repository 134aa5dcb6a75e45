"""The transformer: its forward pass, its checkpoints, and what it writes after a prompt."""
