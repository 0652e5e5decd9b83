"""Putting a swapped face back into its frame."""

DEFAULT_FEATHER = 0.15
"""Width of the mask's soft edge as a part of the face's side."""
