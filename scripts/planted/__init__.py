"""Faults for scripts/faults.py to plant, and the plugin of pytest that it observes the tests with."""
