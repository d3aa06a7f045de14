"""Texts of the synthetic cohort's patients, drawn in memory, as profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rollama.cohort.config import CohortConfig
from rollama.cohort.patients import draw_patient
from rollama.data.case import Split, TextCase
from rollama.data.plan import Plan, render_plan
from rollama.data.profile import Profile, parse_profile, profile_of


def cases(
    centre: str, split: Split, indices: Iterable[int], keep: Callable[[Plan], bool] = lambda _: True
) -> list[TextCase]:
    """Patients of one centre; `keep` chooses by plan."""
    config, found = CohortConfig(), []
    for index in indices:
        patient = draw_patient(config, centre, split, index)
        if keep(patient.plan):
            found.append(
                TextCase(
                    case_id=patient.case_id, centre=centre, split=split, note=patient.note, summary=patient.summary,
                    plan=patient.plan, plan_text=render_plan(patient.plan),
                )
            )  # fmt: skip
    return found


def profiles(chosen: list[TextCase], rounded: bool = False) -> dict[str, Profile]:
    """Of S and P; rounded as in a manifest."""
    found = {task: profile_of(chosen, task) for task in ("s", "p")}
    return {task: parse_profile(p.as_dict(), "test") for task, p in found.items()} if rounded else found
