"""The kinds of events in a ledger, strict and without clinical text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from rollama.core.config import StrictModel
from rollama.core.errors import DataError
from rollama.data.origin import Origin

Digest = Annotated[str, Field(min_length=1, max_length=100)]
"""SHA-256 in hex: of a model's weights file, or of a data set's content."""
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Data(Origin):
    """A step in the making of a data set: imported, generated, or a correction added to another one."""

    what: Literal["data"] = "data"


class Trained(StrictModel):
    """A model was trained on the training split of some data."""

    what: Literal["trained"] = "trained"
    model: Digest
    task: Literal["s", "p", "seg"]
    data: Digest
    run: Digest = Field(description="hash of configuration, task and data")
    base: str = Field("", max_length=200, description="hash of the base's weights")
    parents: tuple[Digest, ...] = Field((), description="models whose weights it began with")


class Evaluated(StrictModel):
    """Models were measured together on held-out cases of some data."""

    what: Literal["evaluated"] = "evaluated"
    models: dict[Literal["s", "p", "seg"], Digest]
    data: Digest
    result: Digest = Field(description="SHA-256 of the figures")


class Predicted(StrictModel):
    """Models made the files of a prediction."""

    what: Literal["predicted"] = "predicted"
    created: Name = Field(description="time in its manifest")
    models: dict[Literal["s", "p", "seg"], Digest]
    inputs: dict[Name, Digest] = Field(description="ct, text, organs -> hash of the file")
    files: dict[Name, Digest] = Field(description="name -> SHA-256 of what was written, the manifest among it")


class Released(StrictModel):
    """Models went to the clinic's endpoint; `rolled_back`: by going back to earlier ones."""

    what: Literal["released"] = "released"
    models: dict[Literal["s", "p", "seg"], Digest]
    record: Digest = Field(description="SHA-256 of the release record")
    rolled_back: bool = False


class Withdrawn(StrictModel):
    """A subject must not be used any more. Models that saw it are marked, whoever asks."""

    what: Literal["withdrawn"] = "withdrawn"
    case: Name


Event = Data | Trained | Evaluated | Predicted | Released | Withdrawn
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="what")])
CHAIN = ("writer", "number", "time", "before")
"""What the chain adds to an event."""


def parse_event(event: dict[str, Any]) -> Event:
    """An event as it was recorded.

    Raises:
        DataError: of a kind, or with a key, that this version does not know.
    """
    try:
        return _EVENTS.validate_python({key: value for key, value in event.items() if key not in CHAIN})
    except ValidationError as error:
        places = sorted({".".join(map(str, item["loc"])) for item in error.errors()})
        name = f"event {event.get('number')} of {event.get('writer')}"
        raise DataError(f"{name}: not one that this version knows ({', '.join(places)})") from None
