"""The machine: its description, and the processors and memory available to this process."""

import math
import os
import platform
import sys
from pathlib import Path

from xpnet import __version__

CGROUPS, STATUS = Path("/sys/fs/cgroup"), Path("/proc/self/status")


def describe_machine() -> dict[str, str]:
    """Return the versions of xpnet and Python, and the platform."""
    return {"xpnet": __version__, "python": platform.python_version(), "platform": platform.platform()}


def available_cpus(jobs: int = 1) -> int:
    """Return the number of processors this process may use, by affinity and container limits.

    It is the share of one of so many `jobs`, at least 1.
    """
    cpus = len(allowed_cpus())
    quota, period = [*_read_words(CGROUPS / "cpu.max"), "max", "max"][:2]
    if quota.isdigit() and period.isdigit():
        cpus = min(cpus, math.ceil(int(quota) / int(period)))
    return max(cpus // jobs, 1)


def allowed_cpus() -> set[int]:
    """Return the numbers of the processors that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return affinity(0) if affinity else set(range(os.cpu_count() or 1))


def available_memory() -> int | None:
    """Return the bytes of memory this process may use, its and container limits included; None if unknown."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    import resource  # Unix only

    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    limits += map(int, filter(str.isdigit, _read_words(CGROUPS / "memory.max")[:1]))
    return min([memory, *(limit for limit in limits if limit != resource.RLIM_INFINITY)])


def peak_memory() -> int | None:
    """Return the largest resident memory of this process so far, in bytes; None if unknown."""
    words = _read_words(STATUS)
    if "VmHWM:" in words:  # Linux, where ru_maxrss includes the memory of the process that started this one
        return 1024 * int(words[words.index("VmHWM:") + 1])
    if sys.platform != "darwin":
        return None
    import resource  # Unix only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _read_words(path: Path) -> list[str]:
    """Return the words in a file, an empty list if it cannot be read."""
    try:
        return path.read_text().split()
    except OSError:
        return []
