"""What S, P and SEG have in common in their configurations: spread over workers, choice of centres, start.

Apart from `worker` so that configurations load without torch.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

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


def _one_of(value: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= value[0] <= value[1]:
        raise ValueError(f"part: found {value}; give [k, n] with k from 1 to n")
    return value


Part = Annotated[tuple[int, int], AfterValidator(_one_of)]
"""(k, n): a training is the k-th of n that share one schedule of the learning rate."""
WHOLE = (1, 1)


class CentresMode(StrEnum):
    """How several centres' data are used: all reachable and together, each left out once, or left where they are."""

    POOLED = "pooled"
    LEAVE_ONE_OUT = "leave-one-centre-out"
    FEDERATED = "federated"


class CentresSection(StrictModel):
    """Which centres' cases are trained on, and how often each is drawn.

    Validation cases follow the same choice: a centre that is left out decides nothing.
    """

    mode: CentresMode = Field(CentresMode.POOLED, description="see docs/centres.md")
    only: tuple[str, ...] = Field((), description="train on these centres; empty: on all of the data set")
    leave_out: tuple[str, ...] = Field((), description="train on none of these")
    weights: dict[str, Annotated[float, Field(gt=0)]] | Literal["equal"] = Field(
        {}, description="centre -> how often its cases are drawn beside 1; 'equal' draws every centre alike"
    )
    cases: int = Field(0, ge=0, description="few-shot: at most so many cases of each centre and split; 0: all")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if both := sorted({*self.only} & {*self.leave_out}):
            raise ValueError(f"centres.only and centres.leave_out both name {', '.join(both)}")
        return self
