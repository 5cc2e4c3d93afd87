"""The computation of a network, for training, prediction and parity checks: its context, and evaluation."""
