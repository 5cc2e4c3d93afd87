"""The array libraries, a file each; no other package imports cupy, torch or jax.

Importing it imports none of them: ``resolve.resolve(device, backend)`` imports the one it selects.
"""
