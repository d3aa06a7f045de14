"""Seeds keyed by what a draw is for, never by where or when it happens.

Noise keyed by rank, micro-step or place in a batch makes a resumed or differently sharded run another run.
A key such as (seed, epoch, row id, pass) does not: the draw belongs to the row.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(*key: int | str) -> int:
    """Map a key to a seed in [0, 2**63): stable across processes, platforms and Python versions."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(*key: int | str) -> np.random.Generator:
    """A NumPy generator that depends on `key` only."""
    return np.random.Generator(np.random.PCG64(derive_seed(*key)))
