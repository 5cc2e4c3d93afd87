"""Training: batches, steps, the loop, its callbacks, the trainer."""
