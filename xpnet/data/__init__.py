"""Data sets: reading, checking and augmentation."""
