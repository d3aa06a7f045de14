"""The chart's drift rules as Prometheus evaluates them: the same distance as the report's, quiet where it should be."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from infra.chart import CHART
from infra.cluster.layout import HOME
from rollama.data.features import FEATURES
from rollama.monitoring.compare import THRESHOLD
from rollama.monitoring.distance import PSI_PER_SQUARE, divergence
from serve.telemetry import TAGGED_LEVELS
from tests.chart.rendering import NAMESPACE, S3, SERVING, Values, objects, of

RULES = CHART / "files/drift.yaml"
BINS = FEATURES["plan_boost"].bins
TRAINED = (195, 5, 0)
SEEN = {"same": (98, 2, 0), "shifted": (20, 60, 20), "few": (1, 4, 1), "new": (0, 0, 40), "trial": (0, 0, 4)}
"""Cases in 40 hours at each centre."""


def rules() -> list[dict]:
    found: list[dict] = yaml.safe_load(RULES.read_text().replace("%NAMESPACE%", "ns"))
    return found


def test_rules_use_the_report_s_threshold_and_what_is_recorded_above_them() -> None:
    known = {"rollama_profile_total", *TAGGED_LEVELS}
    text = RULES.read_text()
    assert f"> {THRESHOLD**2:g}\n" in text and f"/ {PSI_PER_SQUARE:.3f}\n" in text
    for rule in rules():
        words = set(rule["expr"].replace("(", " ").replace("{", " ").split())
        asked = {word.removeprefix("ray_") for word in words if word.startswith(("ray_rollama", "rollama:"))}
        assert asked and asked <= known, asked - known
        assert rule["expr"].count('namespace="ns"') >= len(asked)
        known.add(rule.get("record", ""))
    assert rules()[-1]["annotations"]["description"]


@pytest.mark.chart
def test_prometheus_finds_drift_where_there_is_some(tmp_path: Path) -> None:
    unpacked = HOME / "debian" / "promtool"
    promtool = str(unpacked) if unpacked.is_file() else shutil.which("promtool")
    assert promtool, "no promtool: run 'make cluster-install', or install Prometheus"
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "d", "interval": "1h", "rules": rules()}]})
    )
    series, labels = [], 'namespace="ns",model="seg",feature="plan_boost"'
    for centre, counts in SEEN.items():
        for kind, seen, trained in zip(BINS, counts, TRAINED, strict=True):
            tags = f'{labels},centre="{centre}",bin="{kind}"'
            for pod in ("a", "b"):  # each sees half of the cases; one starts anew in the middle
                half = f"0+{seen / 80 / 12}x480"
                values = half if pod == "a" else f"0+{seen / 80 / 12}x239 0+{seen / 80 / 12}x239"
                series.append({"series": f'ray_rollama_profile_total{{{tags},pod="{pod}"}}', "values": values})
                reference = f'ray_rollama_profile_reference{{{tags},pod="{pod}"}}'
                series.append({"series": reference, "values": f"{trained}x480"})
    drifted = [c for c in SEEN if c in ("shifted", "new")]
    said = rules()[-1]["annotations"]
    expected = [
        {
            "exp_labels": {
                "severity": "warning", "namespace": "ns", "model": "seg", "feature": "plan_boost", "centre": c
            },
            "exp_annotations": {
                **said, "summary": f"plan_boost of seg at {c} is not what the model was trained on."
            },
        }
        for c in drifted
    ]  # fmt: skip
    exact = {
        centre: float(divergence(np.array(counts) / sum(counts), np.array(TRAINED) / sum(TRAINED)))
        for centre, counts in SEEN.items()
    }
    checks = [
        {
            "expr": f'abs(rollama:drift:divergence{{centre="{centre}"}} - {value}) < bool 0.001', "eval_time": "40h",
            "exp_samples": [{"labels": f'{{{labels},centre="{centre}"}}', "value": 1}],
        }
        for centre, value in exact.items()
    ]  # fmt: skip
    test = {
        "interval": "5m", "input_series": series, "promql_expr_test": checks,
        "alert_rule_test": [{"eval_time": "40h", "alertname": "RollamaDrift", "exp_alerts": expected}],
    }  # fmt: skip
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1h", "tests": [test]})
    )
    command = [promtool, "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.chart
def test_the_rules_come_as_a_group_of_their_own_once_an_hour(tmp_path: Path) -> None:
    rule = of(objects(Values("", (*SERVING, S3, "--set=monitoring.rules=always"))), "PrometheusRule")
    groups = {group["name"]: group for group in rule["spec"]["groups"]}
    assert groups["rollama-drift"]["interval"] == "1h" and len(groups["rollama-drift"]["rules"]) == len(rules())
    assert "interval" not in groups["rollama"], "what wakes somebody is looked at more often"
    text = yaml.safe_dump(rule["spec"])
    assert "%NAMESPACE%" not in text and f'namespace="{NAMESPACE}"' in text
