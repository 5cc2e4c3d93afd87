"""Commands of xpnet, one after the other, on the ranks of an MPI job."""

import json
import subprocess
import sys

from requirements import MPIEXEC


def mpi(ranks, *commands, **options):
    """Run commands, lists of words, on so many ranks; return the completed process.

    Its exit code is the largest of the commands'.
    """
    words = json.dumps([[*map(str, command)] for command in commands])
    line = [str(MPIEXEC), "-n", str(ranks), sys.executable, __file__, words]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=300, **options)


def main(text):
    from xpnet.__main__ import main as command

    return max(command(words) for words in json.loads(text))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
