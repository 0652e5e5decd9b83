"""The referee: judges of a frame, footage whose right answer is known, and the trivial answers."""
