"""Faces in frames: where they are, how they stand, who they belong to."""
