"""Metrics of a swap: identity, motion fidelity, temporal stability, artifacts, reconstruction."""
