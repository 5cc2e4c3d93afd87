"""Trained networks at work: prediction and evaluation."""
