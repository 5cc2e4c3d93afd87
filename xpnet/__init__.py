"""A from-scratch neural network whose mathematics is written once for every array library.

Importing this package loads no array library.
"""

__version__ = "0.1.0"
