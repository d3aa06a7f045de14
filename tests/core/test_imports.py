"""What a block hides cannot be imported in it and can behind it; what was loaded before stays loaded."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from rollama.core.imports import not_installed


def test_hidden_in_the_block_and_there_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with not_installed("colorsys", "json"):
        with pytest.raises(ModuleNotFoundError, match="colorsys"):
            importlib.import_module("colorsys")
        assert importlib.import_module("json") is json
    assert importlib.import_module("colorsys").rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    assert sys.modules["json"] is json


def test_an_error_in_the_block_hides_nothing_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(RuntimeError), not_installed("colorsys"):
        raise RuntimeError
    assert "colorsys" not in sys.modules
