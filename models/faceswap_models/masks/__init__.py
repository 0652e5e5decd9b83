"""Weights of `faceswap_models.occlusion`: what covers a face. See docs/guide/occlusion.md."""
