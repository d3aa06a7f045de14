import inspect
import shlex
import subprocess

import pytest

from rollama.cluster.shell import entrypoint
from rollama.core.errors import ConfigError


def arrive(arguments):
    """What a command gets after both shells: bash in the submitter, `ray job submit`'s own quoting, sh in Ray."""
    first = subprocess.run(
        ["bash", "-ce", f"printf '%s\\0' {entrypoint(arguments)}"], capture_output=True, check=True, text=True
    )
    joined = shlex.join(first.stdout.split("\0")[:-1])
    second = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {joined}"], capture_output=True, check=True, text=True, cwd="/usr"
    )
    return second.stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    "argument",
    [
        "plain", "text.lr=1e-3", "segmentation.channels=[8,8,16,16]", "cohort={train: 8, test: 2}", "a b", "  ", "",
        "a;rm -rf x", "`id`", "$HOME", "a$HOME b", "it's", 'say "x"', '"a b"', "*", "b*", "~", "a&b", "a|b", "a\\b",
        "<x>", "(x)", "#x", "!x", "a b`id`", "a 'b' \"c\"", "ünïcode", "{a,b}", "a\tb", '{"rules":[{"at_least":0.5}]}',
    ],
)  # fmt: skip
def test_arguments_arrive_unchanged(argument):
    assert arrive(["train", argument, "end"]) == ["train", argument, "end"]


def test_ray_quotes_as_we_assume():
    from ray.dashboard.modules.job import cli

    assert "shlex.join(entrypoint)" in inspect.getsource(cli)


@pytest.mark.parametrize("argument", ["a\nb", "a\0b", "\x1b[31m", "$(id)"])
def test_what_cannot_arrive_is_refused(argument):
    with pytest.raises(ConfigError, match="carries no"):
        entrypoint(["rollama", argument])


def test_a_usual_command_stays_readable():
    usual = ["rollama", "train", "p", "--preset", "tiny", "--dataset", "s3://b/c@sha256:ab"]
    assert entrypoint(usual) == " ".join(usual)
