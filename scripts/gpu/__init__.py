"""The parts of scripts/gpu_check.py: its processes, what they do, and the page."""
