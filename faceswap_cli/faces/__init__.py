"""Faces in frames: detection, alignment, tracking, sets of crops."""

DEFAULT_DETECTOR = "litert"
"""The detector of extract and convert: a set and a conversion must agree on the alignment."""
VISIBLE_MASK = "visible"
"""The mask of convert that leaves out what is in front of the face."""
