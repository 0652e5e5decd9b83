"""Video in and out: exact times, upright frames, sound carried over."""
