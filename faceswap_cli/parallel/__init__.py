"""Several inputs at a time, by processes of this machine or of a Ray cluster."""
