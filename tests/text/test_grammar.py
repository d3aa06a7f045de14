"""The grammar is the parser's own language, and holding P to it changes nothing but what would not parse."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rollama.core.errors import ConfigError
from rollama.core.registry import Decoding, Task
from rollama.data.plan import (
    Boost,
    BoostKind,
    Dose,
    Guideline,
    Level,
    Plan,
    Side,
    Surgery,
    Technique,
    Volume,
    parse_plan,
    render_plan,
)
from rollama.language.base import load_tokenizer
from rollama.text.continuous import Decoder
from rollama.text.generate import TextModel
from rollama.text.grammar import PlanGrammar, constrain, plan_pattern
from rollama.text.trainer import train_text
from tests.chain.tiny import make_models
from tests.text.conftest import local_worker, make_dataset, record, tiny_config

PATTERN = re.compile(plan_pattern())
DOSES = st.builds(
    Dose,
    gy=st.one_of(st.floats(1e-4, 100), st.integers(1, 10_000).map(lambda n: n / 100)),
    fractions=st.integers(1, 50),
)
PLANS = st.one_of(
    st.builds(Plan, side=st.sampled_from(Side), surgery=st.sampled_from(Surgery), volume=st.none(), dose=st.none(),
              technique=st.none(), guideline=st.none() | st.sampled_from(Guideline)),
    st.builds(Plan, side=st.sampled_from(Side), surgery=st.sampled_from(Surgery), volume=st.sampled_from(Volume),
              levels=st.sets(st.sampled_from(Level)).map(lambda chosen: tuple(sorted(chosen, key=list(Level).index))),
              boost=st.none() | st.builds(Boost, kind=st.sampled_from(BoostKind), dose=DOSES), dose=DOSES,
              technique=st.sampled_from(Technique), guideline=st.none() | st.sampled_from(Guideline)),
)  # fmt: skip
TEXTS = ["Left breast.", "A long summary of the right breast, pT2 N1, clear margins. " * 3, "Right."]
LONG = 160
"""Tokens that hold every plan the tiny models write."""


@settings(max_examples=400, deadline=None)
@given(PLANS)
def test_every_plan_is_in_the_grammar(plan: Plan) -> None:
    assert PATTERN.fullmatch(render_plan(plan))


@settings(max_examples=600, deadline=None)
@given(st.from_regex(PATTERN, fullmatch=True))
def test_all_of_the_grammar_parses_and_is_rendered_the_same(text: str) -> None:
    assert render_plan(parse_plan(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "Volumes: none. Nodes: L3. Boost: none. Prescription: none. Technique: none.",
        "Volumes: whole breast. Nodes: L4, L3. Boost: none. Prescription: 50 Gy in 25 fractions. Technique: VMAT.",
        "Volumes: whole breast. Nodes: L3, L3. Boost: none. Prescription: 50 Gy in 25 fractions. Technique: VMAT.",
        "Volumes: whole breast. Nodes: none. Boost: none. Prescription: none. Technique: VMAT.",
        "Volumes: whole breast. Nodes: none. Boost: none. Prescription: 101 Gy in 25 fractions. Technique: VMAT.",
        "Volumes: whole breast. Nodes: none. Boost: none. Prescription: 50 Gy in 51 fractions. Technique: VMAT.",
        "Volumes: whole breast. Nodes: none. Boost: none. Prescription: 50.0 Gy in 5 fractions. Technique: VMAT.",
        "Volumes: whole breast. Nodes: none. Boost: none. Prescription: 0 Gy in 5 fractions. Technique: VMAT.",
    ],
)
def test_what_is_no_plan_is_outside(text: str) -> None:
    assert PATTERN.fullmatch(f"Side: left. Surgery: mastectomy. {text}") is None


@pytest.mark.parametrize("base", ["tiny", "smollm2"])
def test_tokens_of_a_plan_are_allowed_and_the_end_only_after_it(base: str) -> None:
    tokenizer = load_tokenizer(base)
    width = len(tokenizer) + 40  # padded logits: no token stands behind the last ones
    end = tokenizer.eos_token_id
    grammar = PlanGrammar(tokenizer, {end}, width)
    text = (
        "Side: left. Surgery: mastectomy. Volumes: chest wall. Nodes: L3, L4. Boost: none. Prescription: 40.05 Gy in "
    )
    text += "15 fractions. Technique: VMAT. Guideline: ESTRO."
    for before, after in (("", ""), (" ", " ")):  # as the Llama 2 form is trained
        walk, written = grammar.walk(), ""
        for token in tokenizer(before + text + after, add_special_tokens=False)["input_ids"]:
            (row,) = constrain(torch.zeros(1, width), [walk])
            complete = PATTERN.fullmatch(written.strip()) is not None
            assert row[token] == 0 and row[end] == (0 if complete else -torch.inf)
            walk.step(token)
            written += tokenizer.decode([token])
        free, held = constrain(torch.ones(2, width), [None, walk])
        assert bool((free == 1).all()) and held[end] == 1 and not bool((held[len(tokenizer) :] == 1).any())
    with pytest.raises(ArithmeticError, match="does not allow"):
        grammar.walk().step(tokenizer("Plan", add_special_tokens=False)["input_ids"][0])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    folder = make_models(tmp_path_factory.mktemp("models"))
    return {Task.SUMMARY: folder / "s", Task.PLAN: folder / "p"}


@pytest.fixture(scope="module")
def held(models: dict[Task, Path]) -> TextModel:
    model = TextModel.load(models, plan_decoding=Decoding.CONSTRAINED)
    model.limits[Task.PLAN] = LONG
    return model


def test_weights_that_know_nothing_write_plans(models: dict[Task, Path], held: TextModel) -> None:
    free = TextModel.load(models)
    assert all(not PATTERN.fullmatch(answer.text) for answer in free.generate(Task.PLAN, TEXTS))
    answers = held.generate(Task.PLAN, TEXTS)
    assert all(answer.finished for answer in answers)
    for answer in answers:
        parse_plan(answer.text)
    assert [held.generate(Task.PLAN, [text])[0] for text in TEXTS] == answers
    assert held.generate(Task.SUMMARY, TEXTS) == free.generate(Task.SUMMARY, TEXTS)
    (cut,) = held.generate(Task.PLAN, TEXTS[:1], max_new_tokens=10)
    assert not cut.finished and answers[0].text.startswith(cut.text)


@pytest.mark.parametrize("every", [0, 1, 4])
def test_both_tasks_in_one_batch(held: TextModel, every: int) -> None:
    expected = {(task, n): held.generate(task, [text])[0] for task in Task for n, text in enumerate(TEXTS)}
    decoder = Decoder(held)
    found: dict[object, object] = {}
    for task, number in reversed(expected):
        decoder.add((task, number), task, TEXTS[number])
        for _ in range(every):
            found |= decoder.step()
    while decoder.rows or decoder.waiting:
        found |= decoder.step()
    assert found == expected


def test_a_plan_that_parses_anyway_stays(tmp_path: Path) -> None:
    records = [record(number) for number in range(14)]
    for number, item in enumerate(records):
        plan = Plan(
            side=list(Side)[number % 2], surgery=Surgery.CONSERVING, volume=Volume.BREAST,
            levels=(Level.L3, Level.L4) if number % 3 else (), dose=Dose(gy=40.05, fractions=15),
            technique=Technique.TANGENTS,
        )  # fmt: skip
        item["plan_text"] = render_plan(plan)
    data = make_dataset(tmp_path / "data", records)
    config = tiny_config(lora={"enabled": False}, steps=80, lr=0.01, method="plain", max_new_tokens=LONG)
    train_text(config, Task.PLAN, data, tmp_path / "model", local_worker(tmp_path))
    free, held = (TextModel.load({Task.PLAN: tmp_path / "model"}, plan_decoding=way) for way in Decoding)
    texts = [item["summary"] for item in records]
    answers = free.generate(Task.PLAN, texts)
    parsing = [n for n, answer in enumerate(answers) if PATTERN.fullmatch(answer.text)]
    assert len(parsing) >= 10
    again = held.generate(Task.PLAN, texts)
    assert [again[n] for n in parsing] == [answers[n] for n in parsing]


def test_without_the_library_it_says_what_to_install(models: dict[Task, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ConfigError, match=r"need llguidance; install it with .*rollama\[train\]"):
        TextModel.load(models, plan_decoding=Decoding.CONSTRAINED)
    TextModel.load(models)
