"""How a training run is spread over workers. Apart from `worker` so that configurations load without torch."""

from __future__ import annotations

from pydantic import Field

from rollama.core.config import StrictModel


class ScaleConfig(StrictModel):
    """How many workers, with what, and how the run survives failures."""

    workers: int = Field(2, ge=1, description="Ray Train workers (processes)")
    gpus_per_worker: float = Field(0, ge=0, le=1, description="0 trains on CPU over gloo, 1 on GPU over NCCL")
    cpus_per_worker: int = Field(1, ge=1, description="CPU cores and threads of a worker")
    memory_gib_per_worker: float | None = Field(None, gt=0, description="memory to reserve, if the cluster counts it")
    cache_gib_per_worker: float = Field(4.0, ge=0, description="memory in which SEG keeps volumes it has prepared")
    checkpoint_every: int = Field(20, ge=1, description="optimizer steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1)
    max_failures: int = Field(3, ge=0, description="worker failures survived before the run is given up")
