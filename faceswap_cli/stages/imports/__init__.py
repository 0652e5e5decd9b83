"""Imports: what other programs and data sets have, as sets of faces."""
