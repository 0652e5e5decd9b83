"""The terminal: what is typed, and what is shown."""
