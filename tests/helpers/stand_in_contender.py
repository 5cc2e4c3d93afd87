"""A contender of the benchmark that answers at once, or comes to harm as its name in HARM says.

``python -m stand_in_contender NAME@DEVICE`` in place of ``benchmarks.contenders``.
"""

import json
import os
import sys
import time

HARM = {
    "torch": ("task", "ModuleNotFoundError: No module named 'torch'"),
    "torch-compile": ("task", "RuntimeError: no C++ compiler"),
    "torch-graph": ("run", "OutOfMemoryError: CUDA out of memory"),
    "cupy": ("run", "dies"),
    "jax": ("run", "hangs"),
    "xpnet:native:cupy": ("observe", "CUDARuntimeError: device lost"),
}
"""The request at which it comes to harm, and how."""

if __name__ == "__main__":
    moment, harm = HARM.get(sys.argv[1].partition("@")[0], ("", ""))
    for line in sys.stdin:
        request = next(iter(json.loads(line)), "run")
        if request == moment and harm == "dies":
            os._exit(9)
        time.sleep(1000 * (request == moment and harm == "hangs"))
        answer = {"run": {"seconds": 2e-3, "host": 1e-3}, "observe": {"operations": 7.0}}.get(request, {})
        print(json.dumps({"error": harm} if request == moment else answer), flush=True)
