"""A LLaMA-type model for inference only: the same function as Transformers', at the speed of the memory.

Transformers' modules serve training, every cache and every kind of attention; for a small model on a CPU, their calls
take longer than reading the weights. This is the forward pass written out for what S and P do: rows that come and go,
each with its own adapter, some tokens of each at a time. Linear layers are joined (`joined`), rows keep keys and values
in places of their own (`slots`), tokens of all rows form one matrix without padding.

The model takes the weights of a loaded Transformers model over, layer by layer, so that they are never there twice.
Logits agree with Transformers' and PEFT's up to rounding (tests/text/test_lean.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from rollama.core.errors import CheckpointError
from rollama.text.checkpoint import TextArtefact
from rollama.text.joined import JoinedLinear, Use
from rollama.text.slots import Slots

PREFIX = "base_model.model.model.layers."
"""Of adapter tensors in PEFT's naming."""
GROUPS = {
    "qkv": ("self_attn", ("q_proj", "k_proj", "v_proj")),
    "out": ("self_attn", ("o_proj",)),
    "gates": ("mlp", ("gate_proj", "up_proj")),
    "down": ("mlp", ("down_proj",)),
}
CHUNK, FEW = 2048, range(4, 13)
"""Rows of the head that are multiplied at once, for so many tokens: there torch is slower with the whole matrix."""


class _Layer(NamedTuple):
    before_attention: torch.Tensor
    before_mlp: torch.Tensor
    linears: dict[str, JoinedLinear]


class Lean:
    """Embedding, blocks, norm and head, with any number of adapters by name. One thread at a time."""

    def __init__(self, causal: Any, device: torch.device) -> None:
        """Take over the weights of a Transformers `LlamaForCausalLM`, which is of no use afterwards."""
        config, model = causal.config, causal.model
        self.config, self.device, self.generation_config = config, device, causal.generation_config
        self.heads, self.groups = int(config.num_attention_heads), int(config.num_key_value_heads)
        self.width = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)
        self.embedding = model.embed_tokens.weight.detach().to(device)
        tied = causal.lm_head.weight is model.embed_tokens.weight
        self.head = self.embedding if tied else causal.lm_head.weight.detach().to(device)
        self.norm = model.norm.weight.detach().to(device)
        self.rotary = model.rotary_emb.to(device)
        self.layers: list[_Layer] = []
        for number, block in enumerate(model.layers):
            self.layers.append(_taken(block, device))
            model.layers[number] = torch.nn.Identity()  # frees the block
        self.adapters: set[str] = set()

    @property
    def nbytes(self) -> int:
        """Memory of base and adapters."""
        linears = [linear for layer in self.layers for linear in layer.linears.values()]
        norms = [self.norm, *(norm for layer in self.layers for norm in layer[:2])]
        kept = [self.embedding, *([] if self.head is self.embedding else [self.head]), *norms]
        size: int = sum(part.nbytes for part in kept) + sum(linear.nbytes for linear in linears)
        return size

    def put(self, name: str, artefact: TextArtefact) -> None:
        """Put an artefact's adapter on the base.

        Raises:
            CheckpointError: its tensors are not those that its configuration asks of this base.
        """
        lora, tensors = artefact.config.lora, artefact.tensors
        wanted: dict[tuple[int, str], dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}
        missing, known = [], set()
        for number, layer in enumerate(self.layers):
            for group, (module, projections) in GROUPS.items():
                linear, found = layer.linears[group], wanted.setdefault((number, group), {})
                for projection in projections:
                    if projection not in lora.targets:
                        continue
                    keys = [f"{PREFIX}{number}.{module}.{projection}.lora_{part}.weight" for part in "AB"]
                    columns = linear.parts[projection]
                    shapes = [(lora.r, linear.down.shape[1]), (columns.stop - columns.start, lora.r)]
                    known |= set(keys)
                    missing += [
                        f"{key} {shape}"
                        for key, shape in zip(keys, shapes, strict=True)
                        if key not in tensors or tuple(tensors[key].shape) != shape
                    ]
                    if not missing:
                        found[projection] = (tensors[keys[0]], tensors[keys[1]])
        strange = sorted(set(tensors) - known)
        if missing or strange:
            raise CheckpointError(
                f"{artefact.folder}: its adapter does not fit the base: missing or of another shape {missing[:3]}, "
                f"not known {strange[:3]}"
            )
        for (number, group), parts in wanted.items():
            self.layers[number].linears[group].put(name, parts, lora.alpha / lora.r)
        self.adapters.add(name)

    def drop(self, name: str) -> None:
        """Take an adapter off the base."""
        self.adapters.remove(name)
        for layer in self.layers:
            for linear in layer.linears.values():
                linear.drop(name)

    def slots(self) -> Slots:
        """An empty cache for rows of this model."""
        return Slots(len(self.layers), self.groups, self.width, self.embedding[:0])

    def states(
        self,
        tokens: Sequence[Sequence[int]],
        slots: Slots,
        adapters: Sequence[str | None],
        first: int = 0,
        hidden: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Read tokens of some rows, which lengthens them.

        Args:
            tokens: at least one of each row.
            slots: with the rows `first`, `first` + 1, ...
            adapters: name of each row's adapter; None: the bare base.
            first: the first of the rows.
            hidden: (rows, columns) of bool, what a row must not look at; a later column than given is not hidden.

        Returns:
            Last hidden states (M, H), the tokens of all rows one after the other.
        """
        place = _Place.of(tokens, slots, first, self.device)
        x = functional.embedding(place.ids, self.embedding)
        cos, sin = (part[0, :, None].to(x) for part in self.rotary(x, place.positions[None]))
        turn = (cos[..., : self.width // 2], sin[..., : self.width // 2])
        seen = place.seen(self.heads // self.groups, hidden)
        use = self._use(adapters, place.rows)
        masks = {group: linear.mask(use) for group, linear in self.layers[0].linears.items()}
        for layer, cache in zip(self.layers, slots.buffers, strict=True):
            linears = layer.linears
            joined = linears["qkv"](self._normed(x, layer.before_attention), use, masks["qkv"])
            mixed = self._attend(joined, cache, place, turn, seen)
            x = x + linears["out"](mixed, use, masks["out"])
            gates = linears["gates"](self._normed(x, layer.before_mlp), use, masks["gates"])
            gate, up = gates.chunk(2, dim=-1)
            x = x + linears["down"](functional.silu(gate).mul_(up), use, masks["down"])
        for row, more in enumerate(place.counts, first):
            slots.lengths[row] += more
        return self._normed(x, self.norm)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """(M, vocabulary) from last hidden states (M, H)."""
        if self.device.type == "cpu" and len(states) in FEW:
            return torch.cat([functional.linear(states, rows) for rows in self.head.split(CHUNK)], dim=1)
        return functional.linear(states, self.head)

    def _attend(
        self,
        joined: torch.Tensor,
        cache: tuple[torch.Tensor, torch.Tensor],
        place: _Place,
        turn: tuple[torch.Tensor, torch.Tensor],
        seen: torch.Tensor | None,
    ) -> torch.Tensor:
        """Attention of (M, query + key + value) over the rows' own columns; (M, H)."""
        heads = joined.unflatten(1, (-1, self.width))
        turned = _turned(heads[:, : self.heads + self.groups], *turn)
        for buffer, new in zip(cache, (turned[:, self.heads :], heads[:, self.heads + self.groups :]), strict=True):
            place.write(buffer, new)
        # Query heads of one key head stand as further queries, so that keys and values need no copies.
        query = place.padded(turned[:, : self.heads]).unflatten(2, (self.groups, -1))  # (rows, T, groups, G, D)
        query = query.permute(0, 2, 3, 1, 4)
        keys, values = (buffer[place.of_buffer, :, : place.width] for buffer in cache)
        mixed = functional.scaled_dot_product_attention(query.flatten(2, 3), keys, values, attn_mask=seen)
        mixed = mixed.unflatten(2, query.shape[2:4]).permute(0, 3, 1, 2, 4).flatten(2)  # (rows, T, H)
        return place.flat(mixed)

    def _normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        full = x.float()  # written out: torch's own takes three times as long for one token on a CPU
        normed = full * (full.square().mean(-1, keepdim=True) + self.config.rms_norm_eps).rsqrt()
        weighted: torch.Tensor = normed.to(x.dtype) * weight
        return weighted

    def _use(self, adapters: Sequence[str | None], rows: torch.Tensor) -> Use:
        names = tuple(dict.fromkeys(name for name in adapters if name is not None))
        if unknown := [name for name in names if name not in self.adapters]:
            raise KeyError(unknown[0])  # its columns would be nobody's, and the bare base would answer
        if len(set(adapters)) == 1:
            return Use(names, None)
        own = torch.tensor([-1 if name is None else names.index(name) for name in adapters], device=self.device)
        return Use(names, own[rows])


class _Place(NamedTuple):
    """Where the tokens of a pass stand: M tokens of some rows, `longest` of one row at most."""

    ids: torch.Tensor
    positions: torch.Tensor
    rows: torch.Tensor
    """(M,) each token's row, counted from the first."""
    turn: torch.Tensor
    """(M,) which of its row's new tokens each is."""
    counts: list[int]
    first: int
    longest: int
    width: int
    even: bool

    @classmethod
    def of(cls, tokens: Sequence[Sequence[int]], slots: Slots, first: int, device: torch.device) -> _Place:
        counts = [len(row) for row in tokens]
        starts = slots.lengths[first : first + len(tokens)]
        width = max(start + count for start, count in zip(starts, counts, strict=True))
        slots.reserve(width)
        numbers = [
            (token, start + turn, row, turn)
            for row, (some, start) in enumerate(zip(tokens, starts, strict=True))
            for turn, token in enumerate(some)
        ]
        ids, positions, rows, turns = torch.tensor(numbers, device=device).unbind(1)
        return cls(ids, positions, rows, turns, counts, first, max(counts), width, len(set(counts)) == 1)

    @property
    def of_buffer(self) -> slice:
        return slice(self.first, self.first + len(self.counts))

    def seen(self, repeats: int, hidden: torch.Tensor | None) -> torch.Tensor | None:
        """Which columns each query sees, (rows, 1, repeats * longest, width); None: all."""
        if len(self.ids) == 1 and hidden is None:
            return None
        columns = torch.arange(self.width, device=self.ids.device)
        seen: torch.Tensor = columns <= self.positions[:, None]
        if hidden is not None:
            seen[:, : hidden.shape[1]] &= ~hidden[self.rows, : self.width]
        if not self.even:  # places without a token see the first column, and nobody reads what comes of it
            every = seen.new_zeros(len(self.counts), self.longest, self.width)
            every[:, :, 0] = True
            every[self.rows, self.turn] = seen
            seen = every
        shaped = seen.view(len(self.counts), 1, self.longest, self.width)
        return shaped.repeat(1, 1, repeats, 1)

    def write(self, buffer: torch.Tensor, new: torch.Tensor) -> None:
        """Put (M, heads, D) into (rows, heads, columns, D)."""
        if len(self.counts) == 1:
            buffer[self.first, :, self.width - self.longest : self.width] = new.transpose(0, 1)
        else:
            buffer[self.rows + self.first, :, self.positions] = new

    def padded(self, values: torch.Tensor) -> torch.Tensor:
        """(M, ...) -> (rows, longest, ...)."""
        shape = (len(self.counts), self.longest, *values.shape[1:])
        if self.even:
            return values.reshape(shape)
        result = values.new_zeros(shape)
        result[self.rows, self.turn] = values
        return result

    def flat(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, longest, ...) -> (M, ...)."""
        found: torch.Tensor = values.flatten(0, 1) if self.even else values[self.rows, self.turn]
        return found


def _turned(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions (arXiv 2104.09864) on (M, heads, D), halves as Transformers pairs them; cos, sin (M, 1, D/2)."""
    one, other = heads.chunk(2, dim=-1)
    return torch.cat((torch.addcmul(one * cos, other, sin, value=-1), torch.addcmul(other * cos, one, sin)), dim=-1)


def _taken(block: Any, device: torch.device) -> _Layer:
    linears = {}
    for group, (module, projections) in GROUPS.items():
        layers: Mapping[str, Any] = {name: getattr(getattr(block, module), name) for name in projections}
        weights = {name: layer.weight.detach().to(device) for name, layer in layers.items()}
        biases = [None if layer.bias is None else layer.bias.detach().to(device) for layer in layers.values()]
        linears[group] = JoinedLinear(weights, biases)
    norms = (block.input_layernorm, block.post_attention_layernorm)
    before_attention, before_mlp = (norm.weight.detach().to(device) for norm in norms)
    return _Layer(before_attention, before_mlp, linears)
