"""Kernels that are only worth their code on a processor."""
