"""`tiny`: a LLaMA small enough for tests, built from configuration with a tokenizer of its own.

It goes through the very code paths of a 7B model (LoRA targets, gradient, checkpoint, generation) in milliseconds.
Its tokenizer is a byte-level BPE trained here, deterministically, on the project's own prompts and plan texts.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch

from rollama.core.cache import cache_folder
from rollama.core.config import hash_json
from rollama.core.files import write_json
from rollama.core.registry import Task
from rollama.data.plan import Dose, Level, Plan, Side, Surgery, Technique, Volume, render_plan
from rollama.data.prompts import build_instruction, build_prompt
from rollama.language.prepared import RECORD, prepared

VERSION = 1
VOCABULARY = 512
SPECIAL = ("<|endoftext|>", "<s>", "</s>", "<SEG>")


def prepare_tiny() -> Path:
    """The cached folder of the tiny model; built on first use (under a second).

    Its name carries the hash of the text that its tokenizer is trained on: a change of prompts or plans makes another
    tokenizer, and an older one in a machine's cache would train another model than a fresh machine does.
    """
    return prepared("tiny", cache_folder() / "bases" / f"tiny-{VERSION}-{hash_json(_corpus())[:12]}", _build)


def _build(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(_corpus(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        unk_token=SPECIAL[0],
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        additional_special_tokens=[SPECIAL[3]],
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(VERSION)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / RECORD, {"remark": "random weights, for tests only"})


def _corpus() -> list[str]:
    plans = [
        render_plan(
            Plan(side=side, surgery=surgery, volume=volume, levels=levels, dose=Dose(gy=gy, fractions=n), technique=how)
        )
        for side, surgery, volume, how in itertools.product(Side, Surgery, Volume, Technique)
        for levels in ((), (Level.L3, Level.L4), tuple(Level))
        for gy, n in ((40.05, 15), (50, 25), (26, 5))
    ]
    prompts = [build(task, "") for build in (build_prompt, build_instruction) for task in Task]
    return plans + prompts * 20
