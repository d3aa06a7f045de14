import subprocess
from subprocess import list2cmdline

import pytest

from rollama.cluster.shell import entrypoint
from rollama.core.errors import ConfigError


def arrive(arguments):
    """What a command gets after both shells: bash in the submitter, list2cmdline in `ray job submit`, sh in Ray."""
    show = ["printf", "%s\\0"]
    first = subprocess.run(
        ["bash", "-ce", f"printf '%s\\0' {entrypoint(arguments)}"], capture_output=True, check=True, text=True
    )
    joined = list2cmdline(first.stdout.split("\0")[:-1])
    second = subprocess.run(
        ["sh", "-c", f"{show[0]} '{show[1]}' {joined}"], capture_output=True, check=True, text=True, cwd="/usr"
    )
    return second.stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    "argument",
    [
        "plain", "text.lr=1e-3", "segmentation.channels=[8,8,16,16]", "cohort={train: 8, test: 2}", "a b", "  ",
        "a;rm -rf x", "$(id)", "`id`", "$HOME", "a$HOME b", "it's", 'say "x"', '"a b"', "*", "b*", "~", "a&b", "a|b",
        "<x>", "(x)", "#x", "!x", "a b`id`", "a 'b' \"c\"", "ünïcode", "{a,b}", "a\tb",
    ],
)  # fmt: skip
def test_arguments_arrive_unchanged(argument):
    assert arrive(["train", argument, "end"]) == ["train", argument, "end"]


@pytest.mark.parametrize("argument", ["", "a\nb", "a\\b", "a\0b", "\x1b[31m"])
def test_what_cannot_arrive_is_refused(argument):
    with pytest.raises(ConfigError, match="carries no"):
        entrypoint(["rollama", argument])


def test_a_usual_command_stays_readable():
    usual = ["rollama", "train", "p", "--preset", "tiny", "--dataset", "s3://b/c@sha256:ab"]
    assert entrypoint(usual) == " ".join(usual)
