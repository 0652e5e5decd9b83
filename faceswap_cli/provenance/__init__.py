"""What a finished file says of itself: that a face was replaced, with what, and who signed it."""
