"""Swap faces in video with models trained on your own footage: extract, train, convert."""

__version__ = "0.1.0"
