"""``xpnet runs``: list, show and compare runs."""
