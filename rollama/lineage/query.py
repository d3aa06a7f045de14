"""Questions to a ledger: which models saw this case, what a model is made of, what must not be used any more.

A model saw a case when the case was in the training or the validation split of its data (validation chooses weights
and thresholds), or when a model that it began with saw it. A correction of a case shows the same subject, so who asks
about one of the two is told about both.
"""

from __future__ import annotations

from dataclasses import dataclass

from rollama.core.errors import DataError
from rollama.data.case import Split
from rollama.lineage.events import Data, Evaluated, Predicted, Released, Trained, Withdrawn
from rollama.lineage.ledger import Ledger

SEEN_SPLITS = (str(Split.TRAIN), str(Split.VALIDATION))


@dataclass(frozen=True)
class Life:
    """What a ledger knows of a model.

    Attributes:
        model: its digest.
        trained: how it was made (several times, if a run was repeated).
        ancestors: models that it began with, and those they began with.
        evaluated: where it took part.
        predicted: what it made, as far as `rollama predict` wrote it down.
        released: releases that held it, oldest first.
        in_use: whether the newest release holds it.
        withdrawn: subjects that it or an ancestor saw and that were withdrawn since.
    """

    model: str
    trained: tuple[Trained, ...]
    ancestors: tuple[str, ...]
    evaluated: tuple[Evaluated, ...]
    predicted: tuple[Predicted, ...]
    released: tuple[Released, ...]
    in_use: bool
    withdrawn: tuple[str, ...]


class Lineage:
    """All events of a ledger, read once."""

    def __init__(self, ledger: Ledger) -> None:
        """Read.

        Raises:
            DataError: a chain is not whole, or an event is not known.
        """
        self.ledger = ledger
        found = ledger.events()
        self.data = [event for event in found if isinstance(event, Data)]
        self.predicted = [event for event in found if isinstance(event, Predicted)]
        self.trained = [event for event in found if isinstance(event, Trained)]
        self.evaluated = [event for event in found if isinstance(event, Evaluated)]
        self.released = [event for event in found if isinstance(event, Released)]
        self.withdrawn = sorted({event.case for event in found if isinstance(event, Withdrawn)})
        self._seen: dict[str, frozenset[str]] = {}

    def models(self) -> list[str]:
        """Digests of all models that were trained, in that order."""
        return list(dict.fromkeys(event.model for event in self.trained))

    def find(self, begin: str) -> str:
        """The one model whose digest begins so.

        Raises:
            DataError: none or several do.
        """
        known = {*self.models(), *(digest for event in self.released for digest in event.models.values())}
        found = sorted(digest for digest in known if digest.startswith(begin.removeprefix("sha256:")))
        if len(found) != 1:
            said = f"{len(found)} models: {', '.join(item[:16] for item in found)}" if found else "no model"
            raise DataError(f"{self.ledger.storage.uri}: {begin!r} is the beginning of {said}; its models are "
                            f"{', '.join(item[:16] for item in sorted(known)) or 'none'}")  # fmt: skip
        return found[0]

    def ancestors(self, model: str) -> tuple[str, ...]:
        """Models whose weights it stands on, nearest first."""
        found: list[str] = []
        ask = [model]
        while ask:
            now = ask.pop(0)
            for event in self.trained:
                if event.model == now:
                    new = [parent for parent in event.parents if parent not in found and parent != model]
                    found += new
                    ask += new
        return tuple(found)

    def seen(self, model: str) -> frozenset[str]:
        """Cases that a model or one of its ancestors saw.

        Raises:
            DataError: the cases of its data were not written down.
        """
        data = {event.data for event in self.trained if event.model in (model, *self.ancestors(model))}
        return frozenset().union(*(self._trained_on(content) for content in sorted(data)))

    def subject(self, case: str) -> frozenset[str]:
        """The cases that show the same subject: a case, what corrects it, and what it corrects."""
        pairs = [{event.case, event.corrects} for event in self.data if event.corrects]
        found, grown = {case}, True
        while grown:
            more = found.union(*(pair for pair in pairs if pair & found))
            found, grown = more, more != found
        return frozenset(found)

    def held(self, case: str) -> list[tuple[str, str, str]]:
        """Data set (content hash), case and split, wherever the subject of a case is in a data set.

        Raises:
            DataError: a list of cases is damaged.
        """
        wanted = self.subject(case)
        return [
            (content, item["case"], item["split"])
            for content in self.ledger.data_kept()
            for item in self.ledger.cases(content)
            if item["case"] in wanted
        ]

    def made(self, content: str) -> list[Data]:
        """The steps in which a data set came to be, oldest first; empty where nobody wrote them down."""
        found: list[Data] = []
        while content:
            step = next((event for event in self.data if event.data == content and event not in found), None)
            if step is None:
                break
            found.insert(0, step)
            content = step.extends
        return found

    def who_saw(self, case: str) -> list[str]:
        """Models that saw a case or another one of its subject, in the order in which they were trained."""
        wanted = self.subject(case)
        return [model for model in self.models() if wanted & self.seen(model)]

    def life(self, model: str) -> Life:
        """All about one model (a whole digest).

        Raises:
            DataError: see `seen`.
        """
        inside = [event for event in self.released if model in event.models.values()]
        return Life(
            model, tuple(event for event in self.trained if event.model == model), self.ancestors(model),
            tuple(event for event in self.evaluated if model in event.models.values()),
            tuple(event for event in self.predicted if model in event.models.values()), tuple(inside),
            bool(self.released) and model in self.released[-1].models.values(), self.forbidden(model),
        )  # fmt: skip

    def forbidden(self, model: str) -> tuple[str, ...]:
        """Withdrawn subjects that a model saw."""
        return tuple(case for case in self.withdrawn if self.subject(case) & self.seen(model))

    def _trained_on(self, content: str) -> frozenset[str]:
        if content not in self._seen:
            cases = self.ledger.cases(content)
            self._seen[content] = frozenset(item["case"] for item in cases if item["split"] in SEEN_SPLITS)
        return self._seen[content]
