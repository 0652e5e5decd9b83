"""The stages of a swap, one file each, none knowing another."""
