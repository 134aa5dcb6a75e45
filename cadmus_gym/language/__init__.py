"""The language: instructions, text forms, the machine that runs programs, and the forms of completions."""
