"""A helper's program in processes with kernels of OpenBLAS for other processors, and other threads."""

import os
import subprocess
import sys

import numpy as np
from checkout import ROOT


def printed_with_others(script):
    """Return what a script prints with each kernel and number of threads: a set of texts.

    All run at once. "" is the processor's own kernel. NumPy's own Nehalem has no FMA either.
    """
    children = []
    for kernel, threads in (("Nehalem", 1), ("Haswell", 2), ("", 1)):
        variables = {"OPENBLAS_CORETYPE": kernel, "OMP_NUM_THREADS": f"{threads}", "PYTHONPATH": f"{ROOT}"}
        if kernel == "Nehalem":
            variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(
                np.show_config("dicts")["SIMD Extensions"]["found"]
            )
        words = [sys.executable, "-W", "ignore", script]
        environment = os.environ | variables
        children.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True))
    return {child.communicate()[0].strip() for child in children}
