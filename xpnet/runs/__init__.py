"""What runs there are, and how they compare: ``xpnet runs``, and its parts for programs.

Everything is read from the folders of the runs, and nothing in them changes.
"""

from xpnet.runs.found import FoundRun, Survey, survey

__all__ = ["FoundRun", "Survey", "survey"]
