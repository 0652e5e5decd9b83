"""Pretraining on pairs of synthetic people whose true swap is known: pairs, network, loop."""
