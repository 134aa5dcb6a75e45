"""The families whose completions are programs: a prompt shows cases or instructions, and the agent writes the body."""
