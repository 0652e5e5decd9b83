"""Compositing a swapped face into its frame: colors, mask, blend, blur and grain."""

DEFAULT_FEATHER = 0.15
"""Width of the mask's soft edge as a part of the face's side."""
