"""Run by a Python that starts with this folder on its path: the trial that HARM names comes to harm."""

import os

if "HARM" in os.environ:
    import harmed_trial

    harmed_trial.prepare()
