"""Configuration of the plan-guided segmentation network, its training and its inference.

One class holds every choice, so that an artefact's manifest says completely what was trained. The defaults are the
CPU recipe on the 6 mm grid; the published size (384 x 384 x 128 at 1 x 1 x 3 mm, five stages, a 7B encoder) is the
same class with other numbers. Imports no torch: the command line reads it for help and checks.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from rollama.core.config import StrictModel
from rollama.core.registry import ImagePosition, SegMethod
from rollama.training.config import WHOLE, CentresSection, Part, ScaleConfig

Triple = tuple[float, float, float]
Sizes = tuple[int, int, int]


class TextForm(StrEnum):
    """Which part of a plan the encoder reads.

    `target`: what decides the target's geometry (side, volumes, nodes, guideline), the side said with each structure,
    at half the tokens; the paper's lineage likewise splits target text from dose. `names`: the same with the levels'
    anatomical names: L1 to L4 differ in one digit only, and a small encoder under training noise mixes them up.
    `full`: the plan text as it is. Free text that is not a plan of our form is always read as it is.
    """

    TARGET = "target"
    NAMES = "names"
    FULL = "full"


class TextMode(StrEnum):
    """What the alignment sees of the encoded text, for each prompt.

    `seg_token`: the hidden state at `<SEG>`, as published. `all_tokens`: the states of the plan's tokens and `<SEG>`.
    """

    SEG_TOKEN = "seg_token"
    ALL_TOKENS = "all_tokens"


class SegConsistency(StrEnum):
    """Where CESEG compares the noisy with the clean plan.

    `text`: the `<SEG>` embeddings; trains the prompts only. `feature`: the deepest aligned image features, mean-pooled.
    `logit`: the predicted masks. The latter two train the network as well and cost a second pass of it, without graph.
    """

    TEXT = "text"
    FEATURE = "feature"
    LOGIT = "logit"


class NoiseScale(StrEnum):
    """Noise magnitude: `LC` is NEFTune's alpha/sqrt(L*C); `C` is the authors' code, alpha/sqrt(C)."""

    LC = "LC"
    C = "C"


class ValidationSection(StrictModel):
    """Validation during training, by Dice on validation cases, centres weighing alike."""

    every: int = Field(0, ge=0, description="optimizer steps between validations; 0: only at the end")
    cases: int = Field(40, ge=1, description="at most so many, of each centre as evenly as they come")
    patience: int = Field(0, ge=0, description="stop after so many validations without a better one; 0: never")
    keep: Literal["best", "last"] = Field("best", description="which validated weights become the trained model")


class Crop(StrEnum):
    """Where the network looks: all of the scan, the patient, or where a plan's target can lie."""

    VOLUME = "volume"
    BODY = "body"
    PLAN = "plan"


class InferenceSection(StrictModel):
    """How a trained network is applied to a CT larger than one window."""

    crop: Crop = Crop.PLAN
    margin: float = Field(30.0, ge=0, description="mm around where training targets of such a plan lay")
    skip_below: float = Field(
        0.02, ge=0, lt=0.5, description="run overlapping windows only where a first pass finds this probability; 0: all"
    )
    mirrored: bool = Field(
        False,
        description="look at each window mirrored too, with the plan's other side, and take the mean; twice the time",
    )
    composed: bool = Field(
        False,
        description="outline each structure of the plan by itself and join them: none depends on which others "
        "are named; as many times the time as there are structures",
    )


class SegConfig(StrictModel):
    """Everything that decides a segmentation model."""

    method: SegMethod = SegMethod.CESEG
    seed: int = Field(0, ge=0)

    encoder: str = Field("smollm2", description="frozen text encoder: smollm2, tiny, a folder, a reference or a hub id")
    allow_download: bool = False
    encoder_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    text_form: TextForm = TextForm.TARGET
    text_mode: TextMode = TextMode.SEG_TOKEN
    keep_texts: bool = Field(
        False,
        description="keep what the encoder makes of every plan in the artefact, so that using it needs no encoder; "
        "minutes on a CPU, unless inference.composed",
    )
    max_text_tokens: int = Field(120, ge=8, description="longest plan text in tokens; longer is an error, never cut")
    prompts: int = Field(2, ge=1, description="learnable prompts, each a row of its own through the encoder")
    prompt_tokens: int = Field(8, ge=1, description="length of a learnable prompt")
    prompt_every: int = Field(1, ge=1, description="prompts get gradients (and R is computed) every n-th step only")
    noise_alpha: float = Field(10.0, ge=0)
    noise_scale: NoiseScale = NoiseScale.LC
    consistency: SegConsistency = SegConsistency.TEXT
    consistency_weight: float = Field(1.0, ge=0)

    image_position: ImagePosition = ImagePosition.COORDINATES
    position_scale: float = Field(100.0, gt=0, description="mm that count as 1 in the network's coordinates")
    position_frequencies: int = Field(3, ge=0, description="octaves of sine and cosine beside the linear coordinate")
    position_jitter: float = Field(6.0, ge=0, description="standard deviation in mm by which training moves the origin")

    organs: bool = Field(False, description="a second input channel: the case's mask of organs (<centre>/organs/)")
    channels: tuple[int, ...] = Field((16, 32, 64, 128), min_length=2, description="channels of each stage")
    strides: tuple[int, ...] = Field((2, 2, 2, 2), min_length=2, description="stride of each stage's first convolution")
    fine_channels: int = Field(0, ge=0, description="channels of a full-resolution correction of the logits; 0: none")
    alignment_depth: int = Field(2, ge=1, description="two-way blocks a stage")
    alignment_heads: int = Field(4, ge=1)
    alignment_inner: int = Field(
        0, ge=0, description="least inner width of the attention between text and image; half a stage's channels else"
    )
    alignment_gate: bool = Field(
        False,
        description="let the plan scale each channel of an image stage, beside the attention (FiLM without shift)",
    )
    activation_checkpointing: bool = Field(False, description="recompute the alignment in the backward pass")

    patch: Sizes = (80, 64, 48)
    spacing: Triple = (6.0, 6.0, 6.0)
    hu_range: tuple[float, float] = (-1000.0, 1000.0)
    positive_crops: float = Field(
        0.9, ge=0, le=1, description="share of crops centred on target, if a volume is larger"
    )

    mirrored_crops: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of those crops that lie on the other side: their place must not tell the side",
    )

    flip_probability: float = Field(0.5, ge=0, le=1, description="left-right flip; the plan's side is flipped with it")
    level_drop: float = Field(
        0.0, ge=0, le=1, description="chance to leave some levels out of plan and target, where its parts are kept"
    )
    plan_edits: float = Field(
        0.0, ge=0, le=1, description="chance to train on another plan and its target, where all parts are contoured"
    )
    plan_parts: float = Field(
        0.0, ge=0, le=1, description="share of those other plans that name one structure only (see inference.composed)"
    )
    edit_weight: float = Field(
        0.0, ge=0, description="weight of the loss where another plan of the same CT has another target (plan_edits)"
    )
    edit_after: float = Field(
        0.0, ge=0, lt=1, description="share of the steps before edit_weight counts: first where a target is, then which"
    )
    scale_factor: float = Field(0.1, ge=0, lt=1)
    scale_probability: float = Field(0.3, ge=0, le=1)
    shift_offset: float = Field(0.05, ge=0, lt=1, description="in units of the scaled intensity, 1 = the HU range")
    shift_probability: float = Field(0.3, ge=0, le=1)
    noise_std: float = Field(0.02, ge=0, description="largest standard deviation of added image noise")
    blur_sigma: float = Field(0.8, gt=0, description="largest standard deviation of added blur, in voxels")
    blur_probability: float = Field(0.0, ge=0, le=1)
    noise_probability: float = Field(0.3, ge=0, le=1)

    batch: int = Field(2, ge=1, description="cases of an optimizer step, all workers together")
    micro_batch: int = Field(1, ge=1, description="cases in one forward pass of one worker")
    steps: int = Field(600, ge=1)
    lr: float = Field(3e-3, gt=0)
    prompt_lr_factor: float = Field(1.0, gt=0, description="learning rate of the prompts over that of the network")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(1e-5, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of all gradients together")
    dice_smooth: float = Field(10.0, gt=0, description="voxels added to numerator and denominator of the soft Dice")
    amp: Literal["none", "bfloat16"] = "bfloat16"

    overlap: float = Field(0.5, ge=0, lt=1)
    sw_batch: int = Field(1, ge=1)

    inference: InferenceSection = InferenceSection()
    validation: ValidationSection = ValidationSection()
    centres: CentresSection = CentresSection()
    init: str = Field(
        "", pattern=r"^([0-9a-f]{64})?$", description="SHA-256 of the weights to start from (--init); empty: the seed"
    )
    prox_mu: float = Field(0.0, ge=0, description="FedProx: mu/2 times the squared distance from the first weights")
    part: Part = Field(
        WHOLE,
        description="[k, n]: the k-th of n trainings that share one learning-rate schedule (a federation's rounds)",
    )
    measure: bool = Field(
        True,
        description="measure threshold, reach, calibration and what is usual after training; false takes over those of "
        "--init, such as at a site of a federation, whose coordinator keeps none of them",
    )
    scale: ScaleConfig = Field(default_factory=ScaleConfig)

    @property
    def uses_text(self) -> bool:
        """Whether there is a text encoder at all."""
        return self.method is not SegMethod.VISION

    @property
    def inputs(self) -> int:
        """Input channels: the CT, and the organ mask where it is read."""
        return 2 if self.organs else 1

    @property
    def stride(self) -> int:
        """Total downsampling; every axis of a window is a multiple of it."""
        total = 1
        for value in self.strides:
            total *= value
        return total

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"channels and strides need one value a stage, found {len(self.channels)} and {len(self.strides)}"
            )
        if self.strides[0] not in (1, 2) or set(self.strides[1:]) - {2}:
            raise ValueError(f"strides must be 2, only the first may be 1, found {self.strides}")
        if self.fine_channels and self.strides[0] != 2:
            raise ValueError("fine_channels needs a first stride of 2; with 1 the network has a full-resolution stage")
        if self.alignment_inner % self.alignment_heads:
            raise ValueError(
                f"alignment_inner must be a multiple of alignment_heads = {self.alignment_heads}, "
                f"found {self.alignment_inner}"
            )
        for value in self.channels:
            if value % (2 * self.alignment_heads):
                raise ValueError(
                    f"channels must be multiples of 2 * alignment_heads = {2 * self.alignment_heads}, found {value}"
                )
        if self.inference.mirrored and not self.flip_probability:
            raise ValueError("inference.mirrored needs flip_probability: the network must have seen mirrored patients")
        if self.plan_parts and not self.plan_edits:
            raise ValueError("plan_parts needs plan_edits: it is a share of the other plans that those give")
        if self.plan_parts and self.text_form is TextForm.FULL:
            raise ValueError(
                "plan_parts needs text_form target or names: a single structure has no text as a full plan"
            )
        if self.keep_texts and (self.text_form is TextForm.FULL or not self.uses_text):
            raise ValueError("keep_texts needs a text encoder and text_form target or names: full plans are countless")
        if self.inference.composed and not self.plan_parts:
            raise ValueError("inference.composed needs plan_parts: the network must have seen single structures")
        if self.edit_weight and not self.plan_edits:
            raise ValueError("edit_weight needs plan_edits: without other plans there is nothing to compare")
        if any(size % self.stride for size in self.patch):
            raise ValueError(
                f"patch must be a multiple of the total stride {self.stride} along each axis, found {self.patch}"
            )
        if min(self.spacing) <= 0 or self.hu_range[0] >= self.hu_range[1]:
            raise ValueError("spacing must be positive and hu_range ascending")
        return self
