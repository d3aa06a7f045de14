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


def tensors_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


def cache_size(cache: Any) -> int:
    """Bytes of keys and values."""
    return 0 if cache is None else size_of([part for layer in cache.layers for part in (layer.keys, layer.values)])


def run_ours(models: Path, notes: list[str]) -> dict[str, Any]:
    """The endpoint's decoder, one text in the batch: a token a step, and with guesses after half of the notes."""
    from rollama.text.continuous import Decoder
    from rollama.text.generate import TextModel

    model = TextModel.load({task: models / name for task, name in TEXT_FOLDERS.items()})
    if any(artefact.config.mirrored_look for artefact in model.artefacts.values()):
        raise SystemExit(f"{models}: takes second looks, which the others do not; measure it with mirrored_look=false")
    decoder, cached, base = Decoder(model), 0, model.shared_base()

    def write(task: Task, text: str, rates: list[Rate]) -> str:
        nonlocal cached
        decoder.add(0, task, text)
        steps, begun = 0, 0.0
        while True:
            ended = decoder.step()
            cached = max(cached, decoder.slots.nbytes)
            if ended:
                tokens = len(model.tokenizer(ended[0].text, add_special_tokens=False)["input_ids"])
                rates.append((task, tokens, steps, time.perf_counter() - begun))
                return ended[0].text
            if steps == 0:
                begun = time.perf_counter()
            steps += 1

    read = dict.fromkeys(model.artefacts, base.nbytes)  # a step reads the base and the adapters of all tasks
    most, found = decoder.most, {}
    for name, tokens in (("plain", 1), ("guessed", most)):
        rates: list[Rate] = []
        decoder.most = tokens
        for number, note in enumerate(notes):
            if number == len(notes) // 2 and name == "guessed":
                rates.clear()  # what is worded how has been learned from the notes before
            write(Task.PLAN, write(Task.SUMMARY, note, rates), rates)
        found[name] = _result(rates, read, base.nbytes, cached)
    return {**found["plain"], "guessed": found["guessed"]}


def run_peer(models: Path, notes: list[str], dtype: str) -> dict[str, Any]:
    """The stock loop on two merged models."""
    from transformers import DynamicCache

    from benchmarks.serve_peer import PlainText

    plain = {task: PlainText(models / name, task, dtype) for task, name in TEXT_FOLDERS.items()}
    cached = dict.fromkeys(plain, 0)
    rates: list[Rate] = []

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
        steps = len(times.moments) - 2
        rates.append((task, steps, steps, times.moments[-1] - times.moments[1]))
        cached[task] = max(cached[task], cache_size(cache))
        return answer

    for note in notes:
        write(Task.PLAN, write(Task.SUMMARY, note))
    read = {task: size_of(tensors_of(one.model)) for task, one in plain.items()}
    # A request is at S or at P: one cache at a time, as in ours.
    return _result(rates, read, sum(read.values()), max(cached.values()))


Rate = tuple[Task, int, int, float]
"""Task, tokens and steps after the first, seconds."""


def _result(rates: list[Rate], read: dict[Task, int], weights: int, cache: int) -> dict[str, Any]:
    tokens, steps, seconds = (sum(rate[place] for rate in rates) for place in (1, 2, 3))
    moved = sum(count * read[task] for task, _, count, _ in rates)
    return {
        "tokens_s": tokens / seconds, "steps_s": steps / seconds, "gb_s": moved / seconds / 1e9, "weights": weights,
        "cache": cache,
    }  # fmt: skip


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
