"""What goes over the wire. CTs travel by reference, never in JSON; wrong requests are answered without echoing them."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from rollama import RESEARCH_ONLY
from rollama.core.config import StrictModel
from rollama.core.errors import DataError

PROBLEM = "application/problem+json"


class PipelineRequest(StrictModel):
    """`POST /v1/pipeline`: exactly one of note, summary and plan, and a CT by its path below the data folder."""

    ct_path: str = Field(min_length=1, max_length=1024)
    note: str | None = Field(default=None, repr=False)
    summary: str | None = Field(default=None, repr=False)
    plan: str | dict[str, Any] | None = Field(default=None, repr=False)


class PipelineResponse(StrictModel):
    """The answer. `files` are paths below the results folder; `plan` is null when the text does not parse."""

    notice: str = RESEARCH_ONLY
    request_id: str
    summary: str | None = Field(repr=False)
    plan_text: str = Field(repr=False)
    plan: dict[str, Any] | None
    plan_parsed: bool
    plan_source: str
    target_cc: float
    files: dict[str, str]
    models: dict[str, str]
    timings: dict[str, float]
    warnings: list[str]


class Problem(StrictModel):
    """An error as RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str


def parse_request(body: bytes) -> PipelineRequest:
    """Read the JSON body.

    Raises:
        DataError: names the keys that are wrong and why; values may be clinical text and are not repeated.
    """
    try:
        return PipelineRequest.model_validate_json(body)
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False, include_input=False)
    accepted = ", ".join(PipelineRequest.model_fields)
    problems = set()
    for item in items:
        key = str(item["loc"][0]) if item["loc"] else "body"
        if item["type"] == "extra_forbidden":
            problems.add(f"unknown key; accepted: {accepted}")
        elif item["type"] == "json_invalid":
            problems.add("the body is not valid JSON")
        else:
            problems.add(f"{key}: {item['msg']}")
    raise DataError("; ".join(sorted(problems)))
