"""The LLaMA-3 chat form against Meta's own code, which the package llama-models carries with its tokenizer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rollama.core.registry import Task
from rollama.data.chat import Template, form_of
from rollama.data.prompts import build_instruction

pytestmark = [pytest.mark.realdata, pytest.mark.timeout(600)]
WITH = ("llama-models==0.3.0", "tiktoken>=0.9", "pillow>=11")


class Text:
    """Stands for LLaMA-3's tokenizer: keeps the text that it is given, so that Meta's own can read it."""

    eos_token_id = None

    def get_vocab(self) -> dict[str, int]:
        return {"<|eot_id|>": 128009, "<|start_header_id|>": 128006}

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens  # the opening token is part of the text
        return {"input_ids": [ord(letter) for letter in text]}


def test_prompt_and_answer_are_as_meta_encodes_them() -> None:
    form = form_of(Text(), Template.LLAMA3)
    prompt = "".join(map(chr, form.prompt(Task.PLAN, "Left breast, 40.05 Gy.\n\nNo nodes.")))
    answer = "".join(map(chr, form.answer(" Side: left. ")[:-1]))
    assert form.closing == 128009
    given = {
        "message": build_instruction(Task.PLAN, "Left breast, 40.05 Gy.\n\nNo nodes."),
        "answer": "Side: left.",
        "text": f"{prompt}{answer}<|eot_id|>",
    }
    tool = Path(sys.executable).with_name("uv")
    words = [str(tool), "run", "-q", "--no-project", *(word for name in WITH for word in ("--with", name)), "python"]
    done = subprocess.run(
        [*words, str(Path(__file__).with_name("llama3_reference.py"))], input=json.dumps(given), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["text"] == found["whole"] and found["whole"][: len(found["prompt"])] == found["prompt"]
