"""Helpers that know no concept of xpnet's: trees, files, text, the machine, interrupts."""
