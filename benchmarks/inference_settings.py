"""Does another way of applying a trained SEG follow plans better? Same weights, same held-out patients, in one run.

    python -m benchmarks.inference_settings MODEL COHORT --try composed=true --try mirrored=true

Every `--try` is a set of keys of `segmentation.inference` (several with commas); the artefact's own settings come
first, as `as trained`. Each way gets the threshold that suits it best on the validation cases. Measured are reference
plans, edited plans, and the plans that S and P wrote (`--plans predictions.jsonl` of an evaluation). Differences are
paired over patients. Records are kept in `--out`, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

AS_TRAINED = "as trained"
ROWS = (("reference", "dice"), ("reference", "wrong_side"), ("generated", "dice"), ("generated", "wrong_side"))


class Remembering:
    """A network asked once about the same window and words: edits of a plan share most of their structures."""

    def __init__(self, network: Any, most: int = 256) -> None:
        self.network, self.most = network, most
        self.known: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, patches: Any, origin: Any, words: Any) -> Any:
        """Logits; see `segmentation.pool.Network`."""
        asked = (patches, origin, *((words.states, words.mask) if words is not None else ()))
        seen = hashlib.blake2b()
        for tensor in asked:
            seen.update(b"none" if tensor is None else tensor.float().cpu().numpy().tobytes())
        key = seen.hexdigest()
        if key not in self.known:
            self.known[key] = self.network(patches, origin, words)
            if len(self.known) > self.most:
                self.known.popitem(last=False)
        return self.known[key]


def applied(folder: Path, changes: Mapping[str, Any], validation: Sequence[Any]) -> Any:
    """The model with other inference settings and the threshold that suits them."""
    from rollama.segmentation.predict import SegmentationModel
    from rollama.segmentation.validation import best_threshold

    model = SegmentationModel.load(folder)
    if changes:
        model.network.config = model.config.updated(inference=model.inference.updated(**changes))
        model = SegmentationModel(model.network, model.manifest, model.device)
        model.threshold, _ = best_threshold(model.network, validation, model.device, model.manifest)
    model.windows = Remembering(model.run_windows)
    return model


def measured(
    model: Any, name: str, data: Any, cases: Sequence[Any], plans: Mapping[str, str], edits: bool, out: Path
) -> list[Any]:
    """All records of one way, read from `out` where they are there."""
    from benchmarks.segmentation_study import scored
    from rollama.core.config import hash_json
    from rollama.evaluation.run import GENERATED, REFERENCE, from_line, write_lines

    key = hash_json(
        [model.identity, data.info.content_hash, [case.case_id for case in cases], sorted(plans.items()), edits]
    )
    path = out / f"{key[:16]}.jsonl"
    if path.is_file():
        return [from_line(line) for line in path.read_text().splitlines()]
    every = {REFERENCE: {case.case_id: case.plan_text for case in cases}, GENERATED: plans}
    records = scored(
        model, name, data, cases, every, edits, out, lambda _, source: print(f"{name}: {source}", flush=True),
        shown(name),
    )  # fmt: skip
    write_lines(path, records, keep_text=False)
    return records


def shown(name: str) -> Callable[[int, int], None]:
    """Prints how far a way is."""
    return lambda done, total: print(f"{name}: {done} of {total} patients", flush=True) if done % 10 == 0 else None


def table(ways: Mapping[str, Sequence[Any]]) -> str:
    """Means with intervals of every way and, behind the first, the difference to it, as Markdown."""
    from rollama.evaluation.counterfactual import ALL_EDITS
    from rollama.evaluation.edits import MATTERS
    from rollama.evaluation.statistics import estimate, paired_difference

    order = [*ROWS, *((edit, metric) for metric in ("success", "leakage") for edit in (*MATTERS, ALL_EDITS))]
    order.append((ALL_EDITS, "edited_dice"))
    splits = sorted({record.split for records in ways.values() for record in records}, reverse=True)
    lines = ["| plans | measure | cases | " + " | ".join(ways) + " |", "|---" * (3 + len(ways)) + "|"]
    for split in splits:
        for source, metric in order:
            found = [_values(records, split, source, metric) for records in ways.values()]
            if not found[0]:
                continue
            cells = []
            for values in found:
                cell = str(estimate([value for value, _ in values.values()], [centre for _, centre in values.values()]))
                common = sorted(set(values) & set(found[0]))
                if values is not found[0] and common:
                    one, two = ([some[case][0] for case in common] for some in (values, found[0]))
                    cell += f"; {paired_difference(one, two, [values[case][1] for case in common])}"
                cells.append(cell)
            lines.append(f"| {source} | {metric} | {split}, {len(found[0])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _values(records: Sequence[Any], split: str, source: str, metric: str) -> dict[str, tuple[float, str]]:
    return {
        record.case_id: (record.metrics[metric], record.centre)
        for record in records
        if record.split == split and record.source == source and not math.isnan(record.metrics.get(metric, math.nan))
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="KEY=VALUE,...")
    parser.add_argument("--plans", type=Path, help="predictions.jsonl of an evaluation with S and P")
    parser.add_argument("--no-edits", dest="edits", action="store_false", help="no edited plans")
    parser.add_argument("--limit", type=int, help="at most so many cases a centre and split")
    parser.add_argument("--split", choices=("test", "external"), help="default: both")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="default: MODEL's folder's neighbour study/")
    given = parser.parse_args()
    import torch
    import yaml

    from benchmarks.segmentation_study import held_out, written_plans
    from rollama.data.dataset import open_dataset
    from rollama.segmentation.validation import validation_cases

    torch.set_num_threads(given.threads)
    data = open_dataset(given.cohort, check_volumes=False)
    cases = [case for case in held_out(data, given.limit) if given.split in (None, str(case.split))]
    plans = written_plans(given.plans) if given.plans else {}
    out = given.out or given.model.parent.parent / "study"
    ways = {}
    for name in (AS_TRAINED, *given.tries):
        keys = () if name == AS_TRAINED else (pair.split("=", 1) for pair in name.split(","))
        changes = {key: yaml.safe_load(value) for key, value in keys}
        model = applied(given.model, changes, validation_cases(data, 40))
        print(f"{name}: threshold {model.threshold}", flush=True)
        ways[name] = measured(model, name, data, cases, plans, given.edits, out)
    print(table(ways))


if __name__ == "__main__":
    main()
