"""Video in and out: exact times, upright frames, sound carried over."""

DEFAULT_QUALITY = 18
"""Of the scale from 0, lossless, to 51: looks the same as the source."""
