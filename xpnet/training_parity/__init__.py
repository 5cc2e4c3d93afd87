"""Parity of training runs: the same network trained with every array library, compared with NumPy's."""
