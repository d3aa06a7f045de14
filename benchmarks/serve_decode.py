"""One request alone: tokens a second, bytes that the models keep, and how much of the memory's bandwidth is used.

To write one token, every weight is read once; so tokens a second times bytes of weights cannot exceed what the memory
gives. That is measured here with the same threads: the best of reading and of copying a large array. Runs one side in
this process (`ours`: the running batch of the endpoint; `peer`: the stock `transformers.generate` loop on a merged
model) and prints JSON. The first token is left out: it belongs to reading the prompt.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from rollama.chain.run import TEXT_FOLDERS
from rollama.core.registry import Task

ARRAY = 1 << 28
"""Numbers of four bytes in the large array: 1 GiB, far more than any cache holds."""


def bandwidth(repeats: int = 5) -> dict[str, float]:
    """GB/s of reading (a sum) and of copying (read and written bytes) a large array; the best of some repeats."""
    source, goal = torch.ones(ARRAY), torch.zeros(ARRAY)
    size = source.numel() * source.element_size() / 1e9

    def best(work: Any, moved: float) -> float:
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begun)
        return moved / min(seconds)

    return {"read": best(source.sum, size), "copy": best(lambda: goal.copy_(source), 2 * size)}


def size_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the tensors' memory, shared memory once."""
    kept = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(kept.values())


def tensors_of(model: torch.nn.Module, without: str = "") -> list[torch.Tensor]:
    """Parameters and buffers but those whose name holds `without`."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return [value for name, value in named if not (without and without in name)]


def cache_size(cache: Any) -> int:
    """Bytes of keys and values."""
    return 0 if cache is None else size_of([part for layer in cache.layers for part in (layer.keys, layer.values)])


def run_ours(models: Path, notes: list[str]) -> dict[str, Any]:
    """The endpoint's decoder, one text in the batch."""
    from rollama.text.continuous import Decoder
    from rollama.text.generate import TextModel

    model = TextModel.load({task: models / name for task, name in TEXT_FOLDERS.items()})
    decoder, cached = Decoder(model), 0
    rates: list[tuple[Task, int, float]] = []

    def write(task: Task, text: str) -> str:
        nonlocal cached
        decoder.add(0, task, text)
        steps, begun = 0, 0.0
        while True:
            ended = decoder.step()
            cached = max(cached, cache_size(decoder._cache))
            if ended:
                rates.append((task, steps, time.perf_counter() - begun))
                return ended[0].text
            if steps == 0:
                begun = time.perf_counter()
            steps += 1

    for note in notes:
        write(Task.PLAN, write(Task.SUMMARY, note))
    read = {task: size_of(tensors_of(model.shared_base(), f".{other}.")) for task, other in OTHER.items()}
    return _result(rates, read, size_of(tensors_of(model.shared_base())), cached)


def run_peer(models: Path, notes: list[str], dtype: str) -> dict[str, Any]:
    """The stock loop on two merged models."""
    from transformers import DynamicCache

    from benchmarks.serve_peer import PlainText

    plain = {task: PlainText(models / name, task, dtype) for task, name in TEXT_FOLDERS.items()}
    cached = dict.fromkeys(plain, 0)
    rates: list[tuple[Task, int, float]] = []

    class Times:
        """A streamer: told the prompt, then each token."""

        def __init__(self) -> None:
            self.moments: list[float] = []

        def put(self, _: Any) -> None:
            self.moments.append(time.perf_counter())

        def end(self) -> None:
            return

    def write(task: Task, text: str) -> str:
        times, cache = Times(), DynamicCache(config=plain[task].model.config)
        answer = plain[task].generate(text, streamer=times, past_key_values=cache)
        rates.append((task, len(times.moments) - 2, times.moments[-1] - times.moments[1]))
        cached[task] = max(cached[task], cache_size(cache))
        return answer

    for note in notes:
        write(Task.PLAN, write(Task.SUMMARY, note))
    read = {task: size_of(tensors_of(one.model)) for task, one in plain.items()}
    # A request is at S or at P: one cache at a time, as in ours.
    return _result(rates, read, sum(read.values()), max(cached.values()))


OTHER = {Task.SUMMARY: Task.PLAN, Task.PLAN: Task.SUMMARY}


def _result(rates: list[tuple[Task, int, float]], read: dict[Task, int], weights: int, cache: int) -> dict[str, Any]:
    tokens, seconds = sum(rate[1] for rate in rates), sum(rate[2] for rate in rates)
    moved = sum(count * read[task] for task, count, _ in rates)
    return {"tokens_s": tokens / seconds, "gb_s": moved / seconds / 1e9, "weights": weights, "cache": cache}


def main(options: dict[str, Any]) -> None:
    """Measure one side and the memory."""
    torch.set_num_threads(options["threads"])
    models, notes = Path(options["models"]), options["notes"]
    before = bandwidth()
    found = run_ours(models, notes) if options["side"] == "ours" else run_peer(models, notes, options["dtype"])
    after = bandwidth()  # the machine may have changed meanwhile: the better one is nearer to what it can
    memory = {name: max(before[name], after[name]) for name in before}
    print(json.dumps({**found, **memory, "share": found["gb_s"] / max(memory.values())}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
