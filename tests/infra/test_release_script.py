"""The CI script of releases: what it calls, what it keeps, and that its exit code is the gate's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml

FOLDER = Path(__file__).parents[2] / "infra" / "ci"


def run(tmp_path, code, **variables):
    tool = tmp_path / "bin" / "rollama"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\necho figures; echo reasons >&2\nexit {code}\n'
    )
    tool.chmod(0o755)
    values = {
        "DATASET": "d@sha256:1",
        "WORKSPACE": "s3://b/p",
        "KEY": "k.pem",
        "ROLLAMA_RELEASES": "r.yaml",
        **variables,
    }
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", **values}
    return subprocess.run(
        ["bash", FOLDER / "release.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("code", [0, 3, 4, 6])
def test_the_exit_code_is_the_gates_and_the_log_is_kept(tmp_path, code):
    done = run(tmp_path, code)
    assert done.returncode == code
    assert sorted((tmp_path / "release-report" / "log.txt").read_text().split()) == ["figures", "reasons"]


def test_its_arguments_are_the_verbs(tmp_path):
    from rollama.cli.release import app

    assert run(tmp_path, 0, JUDGE_ON="other data", PRESET="demo").returncode == 0
    group, verb, *arguments = (tmp_path / "called").read_text().splitlines()
    command = typer.main.get_command(app).commands[verb]
    with command.make_context(verb, arguments) as context:
        assert context.params["judge_on"] == "other data" and context.params["preset"] == "demo"
    assert (group, verb) == ("release", "cycle")


def test_a_missing_setting_is_named(tmp_path):
    done = run(tmp_path, 0, KEY="")
    assert done.returncode != 0 and "KEY: release key" in done.stderr and not (tmp_path / "called").exists()


@pytest.mark.parametrize("name", ["github-release.yaml", "gitlab-release.yaml"])
def test_the_examples_are_yaml_and_call_the_script(name):
    text = (FOLDER / name).read_text()
    assert yaml.safe_load(text) and "bash infra/ci/release.sh" in text
