"""The array libraries, one small file each; the only package that names cupy, torch or jax.

Importing it imports none of them: ``resolve.resolve(device, backend)`` chooses one and does.
"""
