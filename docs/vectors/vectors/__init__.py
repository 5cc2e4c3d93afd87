"""The parts of docs/vectors/make_vectors.py: the content of each file of test vectors."""
