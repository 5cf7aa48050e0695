"""Randomness by name: every draw comes from a substream of one root seed.

No generator state outlives a call: there is none to save, and the draws of any step can be made again alone.
"""

import hashlib
import random


def seed_of(root: int, *path: str | int) -> int:
    """A 63-bit seed for the named substream, the same on every machine and Python."""
    text = "/".join([str(root), *map(str, path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(root: int, *path: str | int) -> random.Random:
    """A fresh generator for the named substream: `stream(seed, step, "lemma", 3)`."""
    return random.Random(seed_of(root, *path))
