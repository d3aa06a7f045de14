"""What it costs to hold P to the plan's grammar: CPU seconds a step, free against constrained, in turns.

python -m benchmarks.plan_decoding --models runs/demo/models --dataset runs/demo/cohort

Decodes plans of held-out reference summaries for `STEPS` tokens in batches of 1 and 16, each way in turns, and prints
medians; also what building the grammar and one row's mask cost. CPU time of all threads, so that other work on the
machine does not count; on a GPU it would say nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from rollama.core.registry import Decoding, Task
from rollama.data.case import Split
from rollama.data.dataset import open_dataset
from rollama.data.plan import parse_plan, render_plan
from rollama.text.generate import TextModel
from rollama.text.grammar import PlanGrammar, constrain

STEPS, TURNS = 30, 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    options = parser.parse_args()
    cases = open_dataset(options.dataset, check_volumes=False).select(Split.TEST, Split.EXTERNAL)
    models = {way: TextModel.load({Task.PLAN: options.models / "p"}, plan_decoding=way) for way in Decoding}
    model = models[Decoding.FREE]
    began = time.process_time()
    width = int(model.models[Task.PLAN].config.vocab_size)
    grammar = PlanGrammar(model.tokenizer, model.stop_tokens(Task.PLAN), width)
    print(f"building the grammar: {time.process_time() - began:.2f} s, {width} tokens")
    logits, costs = torch.zeros(1, width), []
    for case in cases[:5]:
        walk = grammar.walk()
        for token in model.tokenizer(render_plan(parse_plan(case.plan_text)), add_special_tokens=False)["input_ids"]:
            began = time.process_time()
            constrain(logits, [walk])
            walk.step(token)
            costs.append(time.process_time() - began)
    print(f"mask of one row and going on: median {1000 * statistics.median(costs):.2f} ms a token")
    for rows in (1, 16):
        texts = [case.summary for case in cases[:rows]]
        seconds: dict[Decoding, list[float]] = {way: [] for way in Decoding}
        for turn in range(TURNS + 1):
            for way, one in models.items():
                began = time.process_time()
                one.generate(Task.PLAN, texts, max_new_tokens=STEPS)
                if turn:  # the first warms up
                    seconds[way].append((time.process_time() - began) / STEPS)
        print(
            f"{rows} rows: "
            + ", ".join(f"{way} {statistics.median(found):.4f} s" for way, found in seconds.items())
            + " of CPU a step"
        )


if __name__ == "__main__":
    main()
