"""Many texts of both tasks in one decoding batch, each joining when it comes and leaving when it has ended.

An endpoint is asked for summaries and plans at any moment. One after the other, everybody waits for everybody; in
fixed batches, a request waits for the longest answer of the batch before it. Here every step decodes one token of
every row; new prompts are read beside the running rows and join them, whatever their task: PEFT applies each row's own
adapter. Rows do not look at each other, so an answer does not depend on its neighbours (see `generate`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

from rollama.core.registry import Task
from rollama.text.generate import Generation, TextModel
from rollama.text.grammar import Walk, constrain


@dataclass(eq=False)
class _Row:
    key: Hashable
    adapter: str
    prompt: list[int]
    limit: int
    stop: set[int]
    walk: Walk | None = None
    written: list[int] = field(default_factory=list)


class Decoder:
    """The running batch. Not thread-safe: one thread adds, removes and steps."""

    def __init__(self, model: TextModel) -> None:
        """Decode with a model whose adapters share one base.

        Raises:
            ConfigError: the tasks' models are wholly trained ones; they cannot share a batch.
        """
        self.model = model
        self.shared = model.shared_base()
        self.device = self.shared.device
        self.waiting: list[_Row] = []
        self.rows: list[_Row] = []
        self._cache: Any = None
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self.device)
        self._ids = torch.zeros(0, dtype=torch.long, device=self.device)
        self._position = torch.zeros(0, dtype=torch.long, device=self.device)

    @property
    def width(self) -> int:
        """Width of the batch, those included who join at the next step; every row is padded to it."""
        return max(max((len(row.prompt) for row in self.waiting), default=0), self._mask.shape[1])

    @property
    def tokens(self) -> int:
        """Size of the batch: rows times width, what memory and time follow."""
        return (len(self.rows) + len(self.waiting)) * self.width

    def cost(self, task: Task, text: str, model: TextModel | None = None) -> int:
        """Tokens that a text would need in all, its answer included; `model`: see `add`.

        Raises:
            DataError: the text is empty or longer than the context.
        """
        model = model or self.model
        return len(model.prompt(task, text)) + model.limits[task]

    def add(self, key: Hashable, task: Task, text: str, model: TextModel | None = None) -> None:
        """Let a text join at the next step; `key` names it in what `step` returns.

        Args:
            key: its name.
            task: S or P.
            text: a note or a summary.
            model: another release whose adapters lie on the same base; default: that of the decoder.

        Raises:
            ConfigError: no model for this task.
            DataError: the text is empty or longer than the context.
        """
        model = model or self.model
        prompt, stop, walk = model.prompt(task, text), model.stop_tokens(task), model.walk(task)
        self.waiting.append(_Row(key, model.names[task], prompt, model.limits[task], stop, walk))

    def remove(self, key: Hashable) -> None:
        """Forget a text, wherever it is."""
        self.waiting = [row for row in self.waiting if row.key != key]
        self._keep([place for place, row in enumerate(self.rows) if row.key != key])

    def step(self) -> dict[Hashable, Generation]:
        """One token for every row; the answers that ended with it."""
        with torch.inference_mode():
            if self.waiting:
                self._join()
            if not self.rows:
                return {}
            logits = self._run(self._ids[:, None], self._position[:, None], self._mask, self._cache, self.rows)
            return self._take(logits)

    def _join(self) -> None:
        """Read the waiting prompts and put them beside the running rows; their first token comes with the next step."""
        from transformers import DynamicCache

        new, self.waiting = self.waiting, []
        # The last token of a prompt is read by the common step, so that the prompts' pass needs no logits.
        heads = [row.prompt[:-1] for row in new]  # never empty: the form itself has words
        width = max(map(len, heads))
        ids = torch.zeros(len(new), width, dtype=torch.long, device=self.device)
        mask = torch.zeros_like(ids)
        for place, head in enumerate(heads):
            ids[place, width - len(head) :] = torch.tensor(head, device=self.device)
            mask[place, width - len(head) :] = 1
        cache = DynamicCache(config=self.shared.config)
        self._run(ids, (mask.cumsum(1) - 1).clamp(min=0), mask, cache, new)
        one = mask.new_ones(len(new), 1)
        mask = torch.cat([mask, one], dim=1)
        last = torch.tensor([row.prompt[-1] for row in new], device=self.device)
        if not self.rows:
            self._cache, self._mask, self._ids, self._position = cache, mask, last, mask.sum(1) - 1
        else:
            _beside(self._cache, cache)
            self._mask = torch.cat(_widened(self._mask, mask))
            self._ids = torch.cat([self._ids, last])
            self._position = torch.cat([self._position, mask.sum(1) - 1])
        self.rows += new

    def _run(
        self, ids: torch.Tensor, position: torch.Tensor, mask: torch.Tensor, cache: Any, rows: list[_Row]
    ) -> torch.Tensor:
        """Logits (rows, vocabulary) of the last place."""
        adapters = {row.adapter for row in rows}
        options: dict[str, Any] = {}
        if len(adapters) > 1:
            options["adapter_names"] = [row.adapter for row in rows]
        else:
            self.shared.set_adapter(adapters.pop())
        logits: torch.Tensor = self.shared(
            input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True,
            logits_to_keep=1, **options,
        ).logits[:, -1]  # fmt: skip
        return logits

    def _take(self, logits: torch.Tensor) -> dict[Hashable, Generation]:
        ended: dict[Hashable, Generation] = {}
        following = constrain(logits, [row.walk for row in self.rows]).argmax(-1)
        keep = []
        for place, (row, token) in enumerate(zip(self.rows, following.tolist(), strict=True)):
            if token not in row.stop:
                row.written.append(token)
                if row.walk is not None:
                    row.walk.step(token)
            if token in row.stop or len(row.written) >= row.limit:
                text = self.model.tokenizer.decode(row.written, skip_special_tokens=True).strip()
                ended[row.key] = Generation(text, token in row.stop)
            else:
                keep.append(place)
        self._ids, self._position = following, self._position + 1
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self.rows), 1)], dim=1)
        self._keep(keep)
        return ended

    def _keep(self, places: list[int]) -> None:
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        index = torch.tensor(places, dtype=torch.long, device=self.device)
        self._ids, self._position, self._mask = self._ids[index], self._position[index], self._mask[index]
        if not places:
            self._cache = None
            self._mask = self._mask[:, :0]
            return
        self._cache.batch_select_indices(index)
        # Columns that are padding for every row left over cost time in every further step.
        empty = int((self._mask.sum(0) == 0).int().cumprod(0).sum())
        if empty:
            self._mask = self._mask[:, empty:]
            for layer in self._cache.layers:
                layer.keys, layer.values = layer.keys[:, :, empty:], layer.values[:, :, empty:]


def _widened(one: torch.Tensor, other: torch.Tensor) -> list[torch.Tensor]:
    """Two (rows, width) padded on the left to one width."""
    width = max(one.shape[1], other.shape[1])
    return [torch.nn.functional.pad(item, (width - item.shape[1], 0)) for item in (one, other)]


def _beside(cache: Any, other: Any) -> None:
    """Append the rows of a cache to another, padded on the left to one width."""
    for mine, theirs in zip(cache.layers, other.layers, strict=True):
        width = max(mine.keys.shape[2], theirs.keys.shape[2])
        mine.keys = torch.cat([_padded(item.keys, width) for item in (mine, theirs)])
        mine.values = torch.cat([_padded(item.values, width) for item in (mine, theirs)])


def _padded(states: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[2], 0))
