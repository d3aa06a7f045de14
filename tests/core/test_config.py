import pytest
from pydantic import Field

from rollama.core.config import StrictModel, apply_overrides, build, hash_json, read_yaml
from rollama.core.errors import ConfigError


class Inner(StrictModel):
    learning_rate: float = Field(1.0, gt=0)


class Outer(StrictModel):
    name: str
    inner: Inner = Field(default_factory=Inner)
    maybe: Inner | None = None


def test_unknown_key_is_refused_with_the_nearest_accepted_one():
    with pytest.raises(
        ConfigError, match=r"file\.yaml: unknown key 'inner\.lerning_rate'; did you mean 'learning_rate'\?"
    ):
        build(Outer, {"name": "x", "inner": {"lerning_rate": 1}}, "file.yaml")


def test_unknown_key_without_a_near_one_lists_the_accepted():
    with pytest.raises(ConfigError, match="unknown key 'zzz'; accepted: inner, maybe, name"):
        build(Outer, {"name": "x", "zzz": 1}, "source")


def test_nested_optional_models_are_looked_into():
    with pytest.raises(ConfigError, match=r"maybe\.learningrate'; did you mean 'learning_rate'"):
        build(Outer, {"name": "x", "maybe": {"learningrate": 1}}, "source")


def test_all_problems_are_in_one_message():
    with pytest.raises(ConfigError) as caught:
        build(Outer, {"inner": {"learning_rate": -1}}, "source")
    assert "key 'name' is missing" in str(caught.value)
    assert "inner.learning_rate: found -1; Input should be greater than 0" in str(caught.value)


def test_overrides_reach_nested_keys_and_read_yaml_values():
    values = apply_overrides({"a": {"b": 1}}, ["a.b=2e-3", "a.c=[1, 2]", "d=yes"])
    assert values == {"a": {"b": "2e-3", "c": [1, 2]}, "d": True}
    assert build(Inner, {"learning_rate": "2e-3"}, "x").learning_rate == 2e-3  # YAML 1.1 reads 2e-3 as text


def test_overrides_leave_the_original_alone():
    values = {"a": {"b": 1}}
    apply_overrides(values, ["a.b=2"])
    assert values == {"a": {"b": 1}}


@pytest.mark.parametrize(("override", "message"), [("a", "expected key.subkey=value"), ("a.b.c=1", "'b' is a value")])
def test_bad_overrides_are_named(override, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"a": {"b": 1}}, [override])


def test_digest_depends_on_values_not_on_order():
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
    assert Outer(name="x").digest() != Outer(name="y").digest()
    assert Outer(name="x").updated(name="y") == Outer(name="y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "found list"),
        ("a: [", "not valid YAML at line"),
        (": :\n- x", "not valid YAML"),
        ("a: 2024-99-99", "not valid YAML"),
        ("a: " + "[" * 3000, "not valid YAML"),
    ],
)
def test_yaml_that_is_no_mapping_is_refused(write, text, message):
    with pytest.raises(ConfigError, match=message):
        read_yaml(write("x.yaml", text))


def test_an_override_that_is_an_impossible_date_is_refused():
    with pytest.raises(ConfigError, match="--set a=2024-99-99: the value is not valid YAML"):
        apply_overrides({}, ["a=2024-99-99"])


def test_yaml_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
