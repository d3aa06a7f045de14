"""A small CT and stand-ins that follow the interfaces of the two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rollama.core.registry import Decoding, Task
from rollama.data.plan import Dose, Level, Plan, Side, Surgery, Technique, Volume, render_plan
from rollama.data.volumes import Volume as Ct
from rollama.segmentation.outline import Outline


@dataclass(frozen=True)
class Answer:
    text: str
    finished: bool = True
    other: str | None = None


@dataclass
class ScriptedText:
    """Answers from a script and remembers what it was asked."""

    answers: dict[Task, Answer]
    asked: list[tuple[Task, str]] = field(default_factory=list)
    plan_decoding: Decoding = Decoding.FREE

    def generate(self, task: Task, texts: Sequence[str], progress: Any = None) -> list[Answer]:
        self.asked += [(task, text) for text in texts]
        if progress:
            progress(1, 1)
        return [self.answers[task] for _ in texts]


@dataclass
class SideSegmenter:
    """Outlines a block on the side that the plan names."""

    asked: list[str] = field(default_factory=list)
    unusual: float = math.nan

    def outline(self, volume: Ct, plan_text: str, progress: Any = None, keep_probability: bool = False) -> Outline:
        self.asked.append(plan_text)
        if progress:
            progress(1, 1)
        mask = np.zeros(volume.shape, dtype=np.uint8)
        index = np.argwhere(mask == 0)
        x = (volume.affine[:3, :3] @ index.T + volume.affine[:3, 3:])[0].reshape(volume.shape)
        mask[(x < -20) if "left" in plan_text else (x > 20)] = 1
        mask[:, :, :3] = 0
        return Outline(mask, self.unusual)


@pytest.fixture
def plan() -> Plan:
    return Plan(
        side=Side.LEFT,
        surgery=Surgery.CONSERVING,
        volume=Volume.BREAST,
        levels=(Level.L3, Level.L4),
        dose=Dose(gy=40.05, fractions=15),
        technique=Technique.VMAT,
    )


@pytest.fixture
def no_target() -> Plan:
    return Plan(side=Side.LEFT, surgery=Surgery.MASTECTOMY, volume=None, dose=None, technique=None)


@pytest.fixture
def ct() -> Ct:
    """A cylinder of tissue in air, centred at x = 0; stored left-handed, so that array order is not patient order."""
    x, y, _ = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 24), np.arange(10), indexing="ij")
    array = np.where(x**2 + y**2 < 0.8, 30.0, -1000.0).astype(np.float32)
    affine = np.diag([-5.0, 5.0, 6.0, 1.0])
    affine[:3, 3] = (72.5, -60.0, 0.0)
    return Ct(array, affine, "test ct")


@pytest.fixture
def text(plan: Plan) -> ScriptedText:
    return ScriptedText({Task.SUMMARY: Answer("Left breast cancer, pT1 N1."), Task.PLAN: Answer(render_plan(plan))})


@pytest.fixture
def segmenter() -> SideSegmenter:
    return SideSegmenter()
