"""The parts of scripts/make_vectors.py: the content of each file of test vectors."""
