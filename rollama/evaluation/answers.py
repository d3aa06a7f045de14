"""What the target of a synthetic case would be under any other plan, and where every nodal level lies.

Whether a model obeys its plan can only be measured against the right answer to *another* plan on the same CT. The
cohort's targets follow from anatomy and plan by written rules, and its anatomy from the configuration and the case's
name; so the answer can be drawn again at any time. Data of other origin have no such answers: there the measures that
need them are left out, not guessed.
"""

from __future__ import annotations

import logging

import numpy as np

from rollama.cohort.bound import target_of
from rollama.cohort.config import CohortConfig
from rollama.cohort.regions import slabs_of
from rollama.cohort.rules import load_rules
from rollama.cohort.targets import part_mask, target_mask
from rollama.core.config import build
from rollama.core.errors import ConfigError, DataError
from rollama.core.registry import Site
from rollama.data.case import Case
from rollama.data.dataset import DatasetInfo
from rollama.data.parts import LEVELS
from rollama.data.plan import Guideline, Level, Plan, Side

Levels = dict[tuple[Side, Level], np.ndarray]

log = logging.getLogger(__name__)


class Answers:
    """True targets and levels of a breast cohort's cases, on each CT's own grid; one case is remembered at a time."""

    def __init__(self, config: CohortConfig) -> None:
        self.config = config
        self._case = ""
        self._known: dict[object, np.ndarray | Levels] = {}

    @classmethod
    def of(cls, info: DatasetInfo) -> Answers | None:
        """The answers to a data set that `rollama cohort make` made for the breast; None for any other.

        Also None, with a warning, when this version cannot make that cohort again (its rules are not here).
        """
        if info.generator.get("room") != "rollama.cohort":
            return None
        try:
            config = build(CohortConfig, info.generator.get("config", {}), "dataset.json: generator")
            load_rules(config.rules)
        except ConfigError as error:
            log.warning("level inclusion and edited plans are left out: %s", error)
            return None
        return cls(config) if config.site is Site.BREAST else None

    def know(self, case: Case, truth: np.ndarray) -> bool:
        """Whether the answer to the case's own plan is the data set's own target (held-out labels are exact).

        It is not when another version of the generator made the data set: its anatomy is then another one.
        """
        if case.plan is None:
            return False
        try:
            same = np.array_equal(self.target(case, case.plan), truth != 0)
        except DataError:
            same = False
        if not same:
            log.warning("%s: this version draws another anatomy; levels and edited plans are left out", case.case_id)
        return same

    def target(self, case: Case, plan: Plan) -> np.ndarray:
        """The exact target of `plan` on the case's anatomy, bool (x, y, z).

        Raises:
            DataError: the case is not one of this cohort.
        """
        key = target_of(plan)
        known = self._of(case)
        if key not in known:
            known[key] = np.concatenate([target_mask(body, plan) > 0 for body in slabs_of(self.config, case)], axis=2)
        return known[key]  # type: ignore[return-value]  # the key says which

    def levels(self, case: Case, guideline: Guideline) -> Levels:
        """Every nodal level of both sides, whatever the plan treats: bool (x, y, z).

        Raises:
            DataError: the case is not one of this cohort.
        """
        known = self._of(case)
        if guideline not in known:
            names = [(side, level) for side in Side for level in Level]
            slabs = [
                [part_mask(body, side, LEVELS[level], guideline) for side, level in names]
                for body in slabs_of(self.config, case)
            ]
            known[guideline] = {
                name: np.concatenate(parts, axis=2) for name, parts in zip(names, zip(*slabs, strict=True), strict=True)
            }
        return known[guideline]  # type: ignore[return-value]  # the key says which

    def _of(self, case: Case) -> dict[object, np.ndarray | Levels]:
        if self._case != case.case_id:
            self._case, self._known = case.case_id, {}
        return self._known
