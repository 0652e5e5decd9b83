"""Evaluation of swaps: metrics, reports, baselines, and synthetic clips with a known true swap."""
