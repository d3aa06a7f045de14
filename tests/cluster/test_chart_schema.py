"""The chart's schema knows the same keys of a site as `SiteConfig`, so a misspelt one is refused by helm already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rollama.cluster.config import _SECRET_WORDS, SiteConfig

SCHEMA = Path(__file__).resolve().parents[2] / "helm/rollama/values.schema.json"


def site_schema() -> dict[str, Any]:
    """pydantic's schema of a site without references, texts and what is required: the chart writes most of it."""
    full = SiteConfig.model_json_schema()
    found = _plain(full, full.get("$defs", {}))
    del found["required"]
    return found


def _plain(node: Any, definitions: dict[str, Any], names: bool = False) -> Any:
    if isinstance(node, list):
        return [_plain(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rpartition("/")[2]], definitions)
    dropped = () if names else ("default", "title", "description", "$defs")
    return {
        key: _plain(value, definitions, names=key == "properties") for key, value in node.items() if key not in dropped
    }


def test_the_chart_knows_every_key_of_a_site_and_no_other():
    schema = json.loads(SCHEMA.read_text())["properties"]
    found = schema["jobs"]["properties"]["site"]
    secrets = found["properties"]["storage_env"].pop("propertyNames")
    assert found == site_schema()
    assert secrets == schema["storage"]["properties"]["env"]["propertyNames"]
    assert secrets["not"]["pattern"] == f"(?i){_SECRET_WORDS.pattern}"
