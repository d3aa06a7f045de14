from __future__ import annotations

from rollama.cli.main import _run


def test_a_preset_is_planned_without_its_weights(capsys):
    assert _run(["plan", "train", "s", "--preset", "cluster-7b", "--gpu", "a100-80", "--length", "128"]) == 0
    shown = capsys.readouterr().out
    for words in ("6,778,392,576, 39,976,960", "8 x NVIDIA A100 80 GB", "8,192", "assumed", "2000 steps"):
        assert words in shown


def test_what_does_not_fit_and_unknown_kinds_are_errors(capsys):
    words = ["plan", "train", "s", "--preset", "cluster-7b", "--length", "128", "--gpu"]
    assert _run([*words, "a100-40", "--set", "s.scale.workers=1", "--set", "s.lora.enabled=false"]) == 2
    assert "do not fit NVIDIA A100 40 GB" in capsys.readouterr().err
    assert _run([*words, "h1000"]) == 2
    assert "unknown kind 'h1000'; accepted: a100-40" in capsys.readouterr().err
