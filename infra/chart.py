"""Keeps the chart's derived files current: `python -m infra.chart` writes them, a test compares them.

`values.schema.json` takes the keys of a site, of job presets, of the endpoint's settings, of a federation and of what
may leave a federation's site from the models that read them, so helm refuses a misspelt one already. `README.md` is
the table of all values, from the comments of `values.yaml`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[1] / "helm/rollama"
OWN_SETTINGS = (
    "models", "data_folder", "store", "host", "port", "api_key_env", "api_key_file", "keys_file", "audit",
    "audit_heads", "audit_key_file", "deadline_s", "max_ongoing_requests", "max_queued_requests", "text_cpus",
    "text_gpus", "segmentation_cpus", "segmentation_gpus", "close_connections",
)  # fmt: skip
"""Keys of `serve.config.ServeConfig` that the chart decides, or has values of their own for."""
DROPPED = ("default", "title", "description", "$defs")


def plain_schema(model: Any) -> dict[str, Any]:
    """pydantic's schema of a model without references, texts and what is required."""
    full = model.model_json_schema()
    found: dict[str, Any] = _plain(full, full.get("$defs", {}))
    found.pop("required", None)
    return found


def _plain(node: Any, definitions: dict[str, Any], names: bool = False) -> Any:
    if isinstance(node, list):
        return [_plain(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rpartition("/")[2]], definitions)
    dropped = () if names else DROPPED
    return {
        key: _plain(value, definitions, names=key == "properties") for key, value in node.items() if key not in dropped
    }


def schema() -> str:
    """The schema file with its derived parts made anew."""
    from rollama.centres.federation.config import Federation, Policy
    from rollama.cluster.config import _SECRET_WORDS, SiteConfig
    from rollama.cluster.presets import JobPreset
    from serve.config import ServeConfig

    whole = json.loads((CHART / "values.schema.json").read_text())
    site, preset, settings = plain_schema(SiteConfig), plain_schema(JobPreset), plain_schema(ServeConfig)
    no_secrets = {"not": {"pattern": f"(?i){_SECRET_WORDS.pattern}"}}
    site["properties"]["storage_env"]["propertyNames"] = no_secrets
    preset["required"] = ["task"]
    for key in OWN_SETTINGS:
        del settings["properties"][key]
    oidc = settings["properties"]["oidc"]["anyOf"][0]["properties"]
    del oidc["jwks_file"]
    for name in ("text_scaling", "segmentation_scaling"):
        settings["properties"][name].pop("required", None)  # the chart fills in the others
    jobs = whole["properties"]["jobs"]["properties"]
    jobs["site"], jobs["presets"]["additionalProperties"] = site, preset
    whole["properties"]["serve"]["properties"]["settings"] = settings
    federation, policy = plain_schema(Federation), plain_schema(Policy)
    for key in ("start", "secure_aggregation"):  # the chart brings it; not offered
        del federation["properties"][key]
    sides = whole["properties"]["federation"]["properties"]
    sides["coordinator"]["properties"]["settings"] = federation
    sides["site"]["properties"]["policy"] = policy
    sides["site"]["properties"]["training"]["properties"]["environment"]["propertyNames"] = no_secrets
    whole["properties"]["storage"]["properties"]["env"]["propertyNames"] = no_secrets
    return json.dumps(whole, indent=2) + "\n"


def rows() -> list[tuple[str, str, str]]:
    """(key, default, what it means) of every value, in the order of the file.

    Raises:
        ValueError: a value has no comment.
    """
    lines = (CHART / "values.yaml").read_text().splitlines()
    found: list[tuple[str, str, str]] = []
    _walk(yaml.compose("\n".join(lines)), "", lines, found)
    return found


def _walk(node: Any, path: str, lines: list[str], found: list[tuple[str, str, str]]) -> None:
    for key, value in node.value:
        name, line = f"{path}{key.value}", lines[key.start_mark.line]
        said = re.search(r"\s#\s(.*)$", line)
        above, at = [said[1]] if said else [], key.start_mark.line - 1
        while at >= 0 and lines[at].lstrip().startswith("#") and lines[at].index("#") == key.start_mark.column:
            above.insert(0, lines[at].lstrip()[1:].strip())
            at -= 1
        block = isinstance(value, yaml.MappingNode) and not value.flow_style
        if block:
            if above:
                found.append((name, "", " ".join(above)))
            _walk(value, f"{name}.", lines, found)
        elif not above:
            raise ValueError(f"values.yaml, line {key.start_mark.line + 1}: {name} has no comment")
        else:
            shown = line[value.start_mark.column : value.end_mark.column].strip()
            found.append((name, shown, " ".join(above)))


def readme() -> str:
    """The chart's README."""
    table = ["| value | default | meaning |", "|---|---|---|"]
    for name, default, meaning in rows():
        shown = f"`{default}`" if default else ""
        bold = f"**`{name}`**" if not default else f"`{name}`"
        table.append(f"| {bold} | {shown} | {meaning.replace('|', ' or ')} |")
    return "\n".join([*HEAD.splitlines(), "", *table, ""])


HEAD = """\
# Chart rollama

Training jobs and the inference endpoint of the RO-LLaMA family on KubeRay 1.6 or newer. Research use only.
How to install and use it, and what is closed by default: [docs/kubernetes.md](../../docs/kubernetes.md). Sets of values
to begin with are in [ci](ci). This file is made from `values.yaml` by `python -m infra.chart`."""


def main() -> None:
    """Write both files."""
    for name, text in (("values.schema.json", schema()), ("README.md", readme())):
        (CHART / name).write_text(text)


if __name__ == "__main__":
    main()
