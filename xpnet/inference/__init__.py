"""Inference: prediction and evaluation with trained networks."""
