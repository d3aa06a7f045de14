import pytest

from rollama.cluster.presets import choose, parse_presets
from rollama.core.errors import ConfigError


def test_presets_are_read_and_found_by_name():
    found = parse_presets("p: {task: p, preset: tiny, set: [text.lr=1e-3]}\nproof: {task: evaluate, limit: 3}", "x")
    assert choose(found, "p", "x").set == ["text.lr=1e-3"]
    assert choose(found, "proof", "x").limit == 3
    assert parse_presets("{}", "x") == parse_presets("", "x") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("p: {task: p, presett: tiny}", "did you mean 'preset'"),
        ("p: {task: q, preset: tiny}", "task"),
        ("p: {task: p}", "a training needs preset"),
        ("p: {task: evaluate, preset: tiny}", "neither preset nor set"),
        ("p: {task: p, preset: tiny, limit: 3}", "belong to an evaluation"),
        ("{", "not valid YAML"),
    ],
)
def test_what_submit_would_refuse_later_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_presets(text, "presets.yaml")


def test_an_unknown_name_names_what_there_is():
    found = parse_presets("nightly-p: {task: p, preset: tiny}", "x")
    with pytest.raises(ConfigError, match="did you mean 'nightly-p'"):
        choose(found, "nightly-b", "x")
    with pytest.raises(ConfigError, match="it has: nightly-p"):
        choose(found, "other", "x")
