"""Linear layers that read the same input as one, with the adapters of all tasks beside them.

Decoding a token reads every weight once and computes little, so its time is the memory's, if nothing else is in the
way. Small layers called one by one are in the way: PEFT makes five calls of one adapted layer, seven layers a block.
Here query, key and value are one product, gate and up another, and the low-rank parts of all adapters lie side by side
in two more:

    y = W x + B ((A x) * m)

with all adapters' A as rows, all their B (scaled) as columns, and m, 1 at the columns of a token's own adapter. So
tokens of several tasks and releases share each product. Where only one adapter is asked for, only its part is read.

On a CPU, W is kept as oneDNN packs it: for some tokens at once that is up to twice as fast as what torch does with a
plain matrix (which packs it anew at every call), and as fast for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

PACKED_FOR = 8
"""Tokens in a product that the packing is chosen for."""


class Use(NamedTuple):
    """Which adapters a pass needs.

    Attributes:
        names: of those that occur.
        tokens: (M,) the place in `names` of each token's adapter, -1 for the bare base; None: the first is everybody's.
    """

    names: tuple[str, ...]
    tokens: torch.Tensor | None


class JoinedLinear:
    """Layers of one input as one product. Weights are (out, in), as torch keeps them."""

    def __init__(self, weights: Mapping[str, torch.Tensor], biases: Sequence[torch.Tensor | None]) -> None:
        """Take the layers' weights by name, in the order of their outputs, and their biases (all or none)."""
        joined = torch.cat(list(weights.values()))
        first, self.parts = 0, dict[str, slice]()
        for name, weight in weights.items():
            self.parts[name] = slice(first, first + len(weight))
            first += len(weight)
        kept = [bias for bias in biases if bias is not None]
        self.bias = torch.cat(kept) if kept else None
        self.packed = _packable(joined)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(joined, PACKED_FOR) if self.packed else joined
        self._base_bytes = joined.nbytes + (0 if self.bias is None else self.bias.nbytes)
        self.down, self.up = joined.new_zeros(0, joined.shape[1]), joined.new_zeros(len(joined), 0)
        self.columns: dict[str, slice] = {}

    @property
    def nbytes(self) -> int:
        """Memory of base and adapters."""
        return self._base_bytes + self.down.nbytes + self.up.nbytes

    def put(self, name: str, parts: Mapping[str, tuple[torch.Tensor, torch.Tensor]], scale: float) -> None:
        """Put an adapter beside the others: (A (r, in), B (out of the layer, r)) of the layers that it has."""
        downs, ups = [self.down], [self.up]
        for layer, (down, up) in parts.items():
            columns = self.up.new_zeros(self.up.shape[0], len(down))
            columns[self.parts[layer]] = up.to(columns) * scale
            downs.append(down.to(self.down))
            ups.append(columns)
        first = len(self.down)
        self.down, self.up = torch.cat(downs), torch.cat(ups, dim=1)
        self.columns[name] = slice(first, len(self.down))

    def drop(self, name: str) -> None:
        """Take an adapter out."""
        gone = self.columns.pop(name)
        keep = [place for place in range(len(self.down)) if not gone.start <= place < gone.stop]
        self.down, self.up = self.down[keep], self.up[:, keep].contiguous()
        size = gone.stop - gone.start
        for other, columns in self.columns.items():
            if columns.start >= gone.stop:
                self.columns[other] = slice(columns.start - size, columns.stop - size)

    def mask(self, use: Use) -> torch.Tensor | None:
        """m of a pass, (M, columns in use); None where every token has the same adapter. Alike layers share it."""
        if use.tokens is None:
            return None
        wanted = self._range(use)
        owner = torch.full((wanted.stop - wanted.start,), -2, device=self.down.device)
        for place, name in enumerate(use.names):
            columns = self.columns[name]
            owner[columns.start - wanted.start : columns.stop - wanted.start] = place
        return (use.tokens[:, None] == owner).to(self.down.dtype)

    def __call__(self, values: torch.Tensor, use: Use, mask: torch.Tensor | None) -> torch.Tensor:
        """(M, in) -> (M, out); `mask` as `mask(use)` gives it."""
        if self.packed:
            result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(values, self.weight, self.bias, "none", [], "")
        else:
            result = functional.linear(values, self.weight, self.bias)
        wanted = self._range(use)
        if wanted.start == wanted.stop:
            return result
        reduced = values @ self.down[wanted].t()
        if mask is not None:
            reduced *= mask
        return result.addmm_(reduced, self.up[:, wanted].t())

    def _range(self, use: Use) -> slice:
        found = [self.columns[name] for name in use.names]
        if not found:
            return slice(0, 0)
        return slice(min(columns.start for columns in found), max(columns.stop for columns in found))


def _packable(weight: torch.Tensor) -> bool:
    """Whether oneDNN multiplies with such a matrix on this machine."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32
