"""Token ids by Meta's own code, package llama-models, for test_llama3_form (run in an environment of its own).

Reads {"message": ..., "answer": ..., "text": ...} from standard input; prints the ids of the dialogue as Meta's
ChatFormat encodes it, prompt and whole, and those of `text` with its special tokens.
"""

from __future__ import annotations

import json
import sys

from llama_models.datatypes import RawMessage, StopReason
from llama_models.llama3.chat_format import ChatFormat
from llama_models.llama3.tokenizer import Tokenizer

given = json.load(sys.stdin)
tokenizer = Tokenizer.get_instance()
form = ChatFormat(tokenizer)
user = RawMessage(role="user", content=given["message"])
answer = RawMessage(role="assistant", content=given["answer"], stop_reason=StopReason.end_of_turn)
prompt = form.encode_dialog_prompt([user]).tokens
turn, _ = form.encode_message(answer, tool_prompt_format=None)
head = form._encode_header("assistant")
print(json.dumps({
    "prompt": prompt, "whole": [*prompt, *turn[len(head):]],
    "text": tokenizer.encode(given["text"], bos=False, eos=False, allowed_special="all"),
}))  # fmt: skip
