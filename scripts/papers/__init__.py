"""The parts of scripts/reproduce_mnist_table.py: rows, trainings, record and page."""
