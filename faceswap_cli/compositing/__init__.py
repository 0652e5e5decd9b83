"""Putting a swapped face back into its frame."""
