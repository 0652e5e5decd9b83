"""What every package stands on: types, errors, files, settings, the workspace."""
