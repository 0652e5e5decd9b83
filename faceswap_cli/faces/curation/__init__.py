"""Cleaning a set of faces: blurred, cut-off and duplicate crops, other people, missing poses."""
