"""The parts of scripts/reproduce_mnist_table.py: the rows, and their page."""
