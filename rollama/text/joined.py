"""Linear layers that read the same input as one, with the adapters of all tasks beside them.

Decoding a token reads every weight once and computes little, so its time is the memory's, if nothing else is in the
way. Small layers called one by one are in the way: PEFT makes five calls of one adapted layer, seven layers a block.
Here query, key and value are one product, gate and up another, and the low-rank parts of all adapters lie side by side
in two more:

    y = W x + B ((A x) * m)

with all adapters' A as rows, all their B (scaled) as columns, and m, 1 at the columns of a token's own adapter. So
tokens of several tasks and releases share each product. B is kept and multiplied layer by layer: a layer's outputs do
not depend on its neighbours' A, and a joined B would be zeros for the most part.

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
        self.down = joined.new_zeros(0, joined.shape[1])
        self.ups = {name: joined.new_zeros(len(weight), 0) for name, weight in weights.items()}
        self.owners: dict[str, list[str]] = {name: [] for name in weights}
        """Of each layer, the adapter of each column of its B. A's rows are in the same order, layer after layer."""

    @property
    def nbytes(self) -> int:
        """Memory of base and adapters."""
        return self._base_bytes + self.down.nbytes + sum(up.nbytes for up in self.ups.values())

    def put(self, name: str, parts: Mapping[str, tuple[torch.Tensor, torch.Tensor]], scale: float) -> None:
        """Put an adapter beside the others: (A (r, in), B (out of the layer, r)) of the layers that it has."""
        downs = self.downs()
        for layer, (down, up) in parts.items():
            downs[layer] = torch.cat([downs[layer], down.to(self.down)])
            self.ups[layer] = torch.cat([self.ups[layer], up.to(self.down) * scale], dim=1)
            self.owners[layer] += [name] * len(down)
        self.down = torch.cat(list(downs.values()))

    def drop(self, name: str) -> None:
        """Take an adapter out."""
        downs = self.downs()
        for layer, names in self.owners.items():
            keep = [place for place, owner in enumerate(names) if owner != name]
            downs[layer], self.ups[layer] = downs[layer][keep], self.ups[layer][:, keep].contiguous()
            self.owners[layer] = [names[place] for place in keep]
        self.down = torch.cat(list(downs.values()))

    def downs(self) -> dict[str, torch.Tensor]:
        """A of all adapters, layer by layer."""
        parts = self.down.split([len(names) for names in self.owners.values()])
        return dict(zip(self.owners, parts, strict=True))

    def mask(self, use: Use) -> torch.Tensor | None:
        """m of a pass, (M or 1, columns); None where all columns are everybody's. Alike layers share it."""
        owners = [name for names in self.owners.values() for name in names]
        if use.tokens is None:
            wanted = [name in use.names[:1] for name in owners]
            return None if all(wanted) else torch.tensor([wanted], device=self.down.device).to(self.down.dtype)
        places = [use.names.index(name) if name in use.names else -2 for name in owners]
        owner = torch.tensor(places, dtype=use.tokens.dtype, device=self.down.device)
        return (use.tokens[:, None] == owner).to(self.down.dtype)

    def __call__(self, values: torch.Tensor, use: Use, mask: torch.Tensor | None) -> torch.Tensor:
        """(M, in) -> (M, out); `mask` as `mask(use)` gives it."""
        if self.packed:
            result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(values, self.weight, self.bias, "none", [], "")
        else:
            result = functional.linear(values, self.weight, self.bias)
        if not use.names or not len(self.down):
            return result
        reduced = values @ self.down.t()
        if mask is not None:
            reduced *= mask
        first = 0
        for layer, up in self.ups.items():
            if columns := up.shape[1]:
                result[:, self.parts[layer]].addmm_(reduced[:, first : first + columns], up.t())
                first += columns
        return result


def _packable(weight: torch.Tensor) -> bool:
    """Whether oneDNN multiplies with such a matrix on this machine."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32
