"""Two gloo processes that train `tiny`; the distributed tests run this file and read what it prints (JSON)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rollama.core.config import build
from rollama.core.registry import Task
from rollama.text.config import TextConfig
from rollama.text.trainer import train_text
from rollama.training.metrics_log import read_metrics
from rollama.training.worker import Worker


def train(rank: int, world: int, runs: list[dict[str, Any]], dataset: str, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    for item in runs:
        out = Path(folder) / item["name"]
        config = build(TextConfig, item["config"], "test")
        resume = Path(folder) / item["resume"] if "resume" in item else None
        worker = Worker(
            rank=rank,
            world=world,
            device=torch.device("cpu"),
            resume=resume,
            scratch=out,
            report=lambda step, metrics, checkpoint: dist.barrier(),
            metrics_path=out / "metrics.jsonl",
        )
        train_text(config, Task.PLAN, Path(dataset), out / "model", worker)
        if rank == 0:
            losses = {row["step"]: row["loss"] for row in read_metrics(out / "metrics.jsonl")}
            print(json.dumps({"name": item["name"], "losses": losses}), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    world, runs, dataset, folder = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
    if world == 1:
        train(0, 1, runs, dataset, folder)
    else:
        torch.multiprocessing.spawn(train, args=(world, runs, dataset, folder), nprocs=world)
