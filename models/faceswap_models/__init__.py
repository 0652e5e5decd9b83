"""Networks that learn to swap faces: torch, numpy and the standard library, nothing else."""
