"""Footage whose right answer is known, and the trivial answers: a referee for swaps."""
