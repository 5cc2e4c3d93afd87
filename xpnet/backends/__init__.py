"""The array libraries, a file each; no other package imports cupy, torch, jax or dpnp.

Importing it imports none of them: ``resolve.resolve(device, backend)`` imports the one it selects.
"""
