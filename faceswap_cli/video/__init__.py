"""Reading and writing videos: exact times, upright frames, audio copied."""

DEFAULT_QUALITY = 18
"""Of the scale from 0, lossless, to 51: looks the same as the source."""
