"""One file of weights per base, named <backend>-<preset>.safetensors: see docs/guide/base.md.

A base is a network that was taught on synthetic people what a swap is, for new runs to begin with.
"""
