"""The parts of scripts/emulated_cuda.py: what g++ compiles, and what is replaced in CuPy."""
