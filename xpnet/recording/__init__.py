"""Recorded training runs: from the start, from a checkpoint, or from the end of another run."""
