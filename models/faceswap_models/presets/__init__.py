"""One TOML file per preset, named <backend>-<preset>.toml."""
