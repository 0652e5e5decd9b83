"""Trainable face-swap models: needs torch and numpy only."""
