"""Everything that decides a text run, typed, without importing torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rollama.core.config import StrictModel
from rollama.core.registry import Consistency, TextMethod
from rollama.data.chat import Template
from rollama.training.config import WHOLE, CentresSection, Part, ScaleConfig

Linear = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LINEARS: tuple[Linear, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a LLaMA block, by Transformers' names."""


class LoraSection(StrictModel):
    """Low-rank adapters (arXiv 2106.09685); `enabled: false` trains all weights."""

    enabled: bool = True
    r: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0, description="the adapter's output is scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[Linear, ...] = Field(LINEARS, min_length=1)


class ZeroSection(StrictModel):
    """DeepSpeed ZeRO: which training state is partitioned over the workers (arXiv 1910.02054)."""

    stage: int = Field(2, ge=0, le=3, description="0 none, 1 optimizer state, 2 + gradients, 3 + parameters")
    offload_optimizer: bool = Field(False, description="keep the optimizer state in CPU memory")
    overlap: bool = Field(True, description="overlap communication with the backward pass (GPU only)")
    bucket: int = Field(50_000_000, ge=1, description="elements communicated at once")


class MonitorSection(StrictModel):
    """Evaluation by generation while training goes on: ROUGE-L for S, plan fields right for P, on validation cases."""

    every: int = Field(0, ge=0, description="optimizer steps between evaluations; 0 evaluates never")
    cases: int = Field(16, ge=1, description="validation cases, the same each time")
    keep: Literal["best", "last"] = Field("best", description="which evaluated model becomes the trained model")
    gpus: float = Field(0, ge=0, description="of the task that generates; without one it runs on a CPU")


class TextConfig(StrictModel):
    """One S or P training run. The default is the recipe for SmolLM2 on two CPU cores."""

    base: str = Field("smollm2", min_length=1, description="smollm2, tiny, a folder, a reference, or a hub id")
    allow_download: bool = False
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    method: TextMethod = TextMethod.CEFTUNE
    noise_alpha: float = Field(5.0, ge=0, description="alpha of NEFTune's noise")
    consistency: Consistency = Consistency.KL
    consistency_weight: float = Field(1.0, ge=0, description="lambda of CEFTune")
    consistency_every: int = Field(1, ge=1, description="clean pass on every n-th step only, with n times the weight")
    sentence_encoder: str = Field("minilm", min_length=1, description="for consistency sbert: minilm, or a folder")
    lora: LoraSection = LoraSection()
    template: Template = Field(Template.PLAIN, description="how prompt and answer are written: see data/chat.py")
    max_tokens: int = Field(1024, ge=8, description="longest row; a longer one is refused, never cut")
    batch: int = Field(8, ge=1, description="rows per optimizer step, all workers together")
    micro_batch: int = Field(4, ge=1, description="most rows per forward pass of one worker")
    packing: bool = Field(True, description="rows one after the other without padding; false pads each to the longest")
    steps: int = Field(60, ge=1, description="optimizer steps")
    lr: float = Field(2e-3, gt=0, description="peak of the one-cycle schedule")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps spent warming up")
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, ge=0, description="largest norm of the global gradient; 0 does not clip")
    zero: ZeroSection = ZeroSection()
    activation_checkpointing: bool = False
    loss_chunk: int = Field(256, ge=1, description="answer tokens whose vocabulary logits exist at once")
    seed: int = 0
    centres: CentresSection = CentresSection()
    mirrored: bool = Field(False, description="train on every text once more with left and right exchanged")
    corrected_side_weight: float = Field(
        1.0, gt=0, description="S: how often a note that says that a side in it is wrong is drawn, beside 1"
    )
    init: str = Field(
        "", pattern=r"^([0-9a-f]{64})?$", description="SHA-256 of the weights to start from (--init); empty: the seed"
    )
    prox_mu: float = Field(0.0, ge=0, description="FedProx: mu/2 times the squared distance from the first weights")
    part: Part = Field(
        WHOLE,
        description="[k, n]: the k-th of n trainings that share one learning-rate schedule (a federation's rounds)",
    )
    scale: ScaleConfig = ScaleConfig()
    monitor: MonitorSection = MonitorSection()
    max_new_tokens: int = Field(256, ge=1, description="generation stops here")
    mirrored_look: bool = Field(
        False,
        description="generation also answers the mirrored text and, where that differs, takes what both looks together "
        "find likelier; up to twice the time",
    )
    generate_batch: int = Field(16, ge=1, description="texts generated together")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch % self.scale.workers:
            raise ValueError(
                f"batch {self.batch} is not divisible by scale.workers {self.scale.workers}; make it a multiple, "
                "so that every worker has the same number of rows"
            )
        if self.prox_mu and self.zero.stage == 3:
            raise ValueError("prox_mu needs whole parameters on each worker; use zero.stage 2 or less")
        if self.zero.stage == 0 and self.dtype == "bfloat16":
            raise ValueError(
                "zero.stage 0 keeps no float32 copy of bfloat16 weights; use stage 1, 2 or 3, or dtype float32"
            )
        return self
