"""What makes two runs the same."""

from __future__ import annotations

from rollama.core.config import hash_json
from rollama.segmentation.config import SegConfig
from rollama.text.config import TextConfig
from rollama.training.runs import LATER, run_hash


def test_a_run_from_before_a_key_was_there_is_still_the_same() -> None:
    for config in (TextConfig(), SegConfig()):
        known = {k: v for k, v in config.model_dump(mode="json", exclude={"scale"}).items() if k not in LATER}
        assert run_hash(config, "s", "data") == hash_json({"config": known, "task": "s", "data": "data"})
    plain = run_hash(TextConfig(), "s", "data")
    assert plain != run_hash(TextConfig(mirrored=True), "s", "data")
    assert plain != run_hash(TextConfig(corrected_side_weight=2), "s", "data")
    assert plain == run_hash(TextConfig.model_validate({"scale": {"workers": 4}}), "s", "data")
    assert run_hash(SegConfig(), "seg", "data") != run_hash(SegConfig(keep_texts=True), "seg", "data")


def test_every_later_key_is_one() -> None:
    fields = TextConfig.model_fields | SegConfig.model_fields
    assert all(fields[key].default == value for key, value in LATER.items())
