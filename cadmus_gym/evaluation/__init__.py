"""How often completions are true, and what a model was trained on."""
