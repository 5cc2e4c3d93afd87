"""The processes that share a training: one alone, or the ranks of an MPI job."""
