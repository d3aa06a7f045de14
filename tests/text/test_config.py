from __future__ import annotations

import subprocess
import sys

import pytest

from rollama.core.config import build
from rollama.core.errors import ConfigError
from rollama.text.config import TextConfig


def test_unknown_key_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean 'offload_optimizer'"):
        build(TextConfig, {"zero": {"offload_optimiser": True}}, "preset")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": 9, "scale": {"workers": 2}}, "batch 9 is not divisible by scale.workers 2"),
        ({"zero": {"stage": 0}, "dtype": "bfloat16"}, "zero.stage 0"),
        ({"zero": {"stage": 4}}, "zero.stage"),
        ({"lora": {"targets": ["q"]}}, "lora.targets"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(TextConfig, values, "preset")


def test_import_needs_no_torch() -> None:
    code = "import rollama.text.config, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
