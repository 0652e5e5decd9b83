"""One TOML a preset: what it is for, how long it takes, and on what."""
