"""CuPy's kernels, compiled and disassembled without a GPU, for scripts/check_kernels.py."""
