"""The families whose prompts leave a value: each module writes one kind of prompt."""
