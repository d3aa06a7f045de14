"""Chat forms against what tokenizers render; the LLaMA-3 form against Meta's own code is in tests/realdata."""

from __future__ import annotations

import pytest

from rollama.core.errors import ConfigError
from rollama.core.registry import Task
from rollama.data.chat import Template, form_of
from rollama.data.prompts import build_instruction
from rollama.language.base import load_tokenizer

TEXT = "Left breast cancer."
LLAMA2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""As LLaMA-2-chat's tokenizer carries it, without the system message."""


def test_the_tokenizers_own_template_is_what_it_renders() -> None:
    tokenizer = load_tokenizer("smollm2")
    form = form_of(tokenizer, Template.CHAT)
    user = {"role": "user", "content": build_instruction(Task.PLAN, TEXT)}
    asked = tokenizer.apply_chat_template([user], add_generation_prompt=True, tokenize=False)
    assert form.prompt(Task.PLAN, TEXT) == tokenizer(asked, add_special_tokens=False)["input_ids"]
    whole = tokenizer.apply_chat_template([user, {"role": "assistant", "content": "Yes."}], tokenize=False)
    ids = [*form.prompt(Task.PLAN, TEXT), *form.answer(" Yes. ")]
    assert tokenizer.decode(ids) == whole.rstrip("\n") and form.closing == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_llama_2() -> None:
    tokenizer = load_tokenizer("tiny")  # its opening and closing tokens are <s> and </s>, as LLaMA-2's
    form = form_of(tokenizer, Template.LLAMA2)
    talk = [{"role": "user", "content": build_instruction(Task.PLAN, TEXT)}, {"role": "assistant", "content": "Yes."}]
    whole = tokenizer.apply_chat_template(talk, chat_template=LLAMA2, tokenize=False)
    ids = [*form.prompt(Task.PLAN, TEXT), *form.answer("Yes.")]
    assert tokenizer.decode(ids).replace(" ", "") == whole.replace(" ", "")  # sentencepiece adds the answer's space
    assert ids[-1] == tokenizer.eos_token_id


def test_plain_is_the_prompt_and_the_end_token() -> None:
    tokenizer = load_tokenizer("smollm2")
    form = form_of(tokenizer, Template.PLAIN)
    assert (
        tokenizer.decode(form.prompt(Task.SUMMARY, f" {TEXT}\n"))
        == "### Clinical note\nLeft breast cancer.\n### Summary\n"
    )
    assert form.answer("A.")[-1] == tokenizer.eos_token_id


def test_a_tokenizer_that_does_not_fit_is_refused() -> None:
    tokenizer = load_tokenizer("tiny")
    with pytest.raises(ConfigError, match=r"no token <\|eot_id\|>"):
        form_of(tokenizer, Template.LLAMA3)
    with pytest.raises(ConfigError, match="carries no chat template"):
        form_of(tokenizer, Template.CHAT)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] | upper }}{% endfor %}"
    with pytest.raises(ConfigError, match="changes what it wraps"):
        form_of(tokenizer, Template.CHAT)
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no end-of-text token"):
        form_of(tokenizer, Template.PLAIN)


@pytest.mark.parametrize("template", [Template.PLAIN, Template.LLAMA2, Template.CHAT])
def test_places_of_tokens_lead_back_to_the_text(template: Template) -> None:
    tokenizer = load_tokenizer("smollm2" if template is Template.CHAT else "tiny")
    form = form_of(tokenizer, template)
    ids, places = form.placed_prompt(Task.PLAN, TEXT)
    assert ids == form.prompt(Task.PLAN, TEXT) and len(places) == len(ids)
    seen = {number for start, end in places for number in range(start, end)}
    assert seen == set(range(len(TEXT)))
    (token,) = [ids[number] for number, place in enumerate(places) if place[0] <= TEXT.index("L") < place[1]]
    assert "L" in tokenizer.decode([token])
    written, spots = form.placed("Yes. No.", special=False)
    assert written == form.ids("Yes. No.", special=False) and spots[-1][1] == 8
