"""Which arithmetic this processor multiplies faster in.

Processors that have bfloat16 instructions differ by a factor of three in how fast these are beside float32: on some
they are twice as fast, on others half as fast. Nothing in the processor's flags tells; a multiplication does.
"""

from __future__ import annotations

import time
from pathlib import Path

from rollama.core.errors import DataError
from rollama.core.files import read_json, write_json


def faster_dtype(record: Path) -> str:
    """`bfloat16` or `float32`: what is faster here, as measured when `record` was first written (half a second).

    The choice is kept, so that work that was begun in one is not done again in the other.
    """
    if record.is_file():
        found = read_json(record)
        if isinstance(found, dict) and found.get("faster") in ("bfloat16", "float32"):
            return str(found["faster"])
        raise DataError(f"{record}: 'faster' has to be bfloat16 or float32; delete the file to measure again")
    speeds = {name: _gflops(name) for name in ("bfloat16", "float32")}
    faster = max(speeds, key=speeds.__getitem__)
    write_json(record, {"faster": faster, "gflops": {name: round(value) for name, value in speeds.items()}})
    return faster


def _gflops(dtype: str, rows: int = 2048, width: int = 576, repeats: int = 12) -> float:
    """Best of some multiplications of the size that SmolLM2's layers have, in 1e9 operations a second."""
    import torch

    left = torch.ones(rows, width, dtype=getattr(torch, dtype))
    right = torch.ones(3 * width, width, dtype=left.dtype)
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        torch.nn.functional.linear(left, right)
        best = min(best, time.perf_counter() - begun)
    return 2 * rows * width * 3 * width / best / 1e9
