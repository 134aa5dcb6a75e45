"""How well completions do, and what a model was trained on."""
