"""One measurement of `text_peers`, in a process of its own: python -m benchmarks.text_cells '{"cell": "ours:ceftune"}'

Prints one JSON line: seconds of each step, tokens of each step, losses, peak memory after the first step.

Cells:

* `ours:plain|neftune|ceftune` - the project's training: DeepSpeed ZeRO-2, bfloat16 with float32 master weights.
* `hf`, `trl` - Hugging Face Trainer and TRL's SFTTrainer with `neftune_noise_alpha`, on the same rows and order.
* `bare` - a loop without trainer or DeepSpeed, whose options turn single differences on and off, to split a ratio.

All train SmolLM2-135M with LoRA on all linear layers, AdamW, clipping, a constant learning rate; the rows of each step
are sorted by length, so the trainers' micro-batches have as little padding as length grouping gives.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rollama.core.registry import Task
from rollama.data.case import Split
from rollama.data.dataset import open_dataset
from rollama.data.tokenization import TokenRow, tokenize_cases
from rollama.language.base import base_folder, load_tokenizer

ALPHA, RATE, CLIP, RANK, LORA_ALPHA = 5.0, 1e-3, 1.0, 16, 32.0


@dataclass
class Clock:
    """Seconds of each step; the peak of the memory is counted from the end of the first step."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    begun: float = 0.0

    def begin(self) -> None:
        self.begun = time.perf_counter()

    def end(self, loss: float | None = None) -> None:
        self.seconds.append(time.perf_counter() - self.begun)
        if loss is not None:
            self.losses.append(loss)
        if len(self.seconds) == 1:
            Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of loading the model


def peak_mib() -> float:
    """Largest resident memory since the last reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def ordered_rows(dataset: Path, task: Task, steps: int, batch: int) -> list[list[TokenRow]]:
    """The rows of each step, longest first; the same for every cell."""
    from rollama.training.sampler import BatchOrder

    cases = open_dataset(dataset, check_volumes=False).select(Split.TRAIN)
    rows = tokenize_cases(load_tokenizer("smollm2"), task, cases, 4096)
    order = BatchOrder(len(rows), batch, 0)
    found = [[rows[draw.row] for draw in order.step(step)] for step in range(steps)]
    return [sorted(step, key=lambda row: -len(row.ids)) for step in found]


def ours(options: dict[str, Any], clock: Clock) -> None:
    """Our method, module, engine and loop on one worker."""
    from rollama.core.config import build
    from rollama.text.batch import TextBatches
    from rollama.text.config import TextConfig
    from rollama.text.engine import DeepSpeedEngine
    from rollama.text.method import build_method
    from rollama.text.model import build_module
    from rollama.training.loop import Metrics, run
    from rollama.training.sampler import BatchOrder
    from rollama.training.worker import keep_memory

    keep_memory(torch.device("cpu"))
    values = {"base": "smollm2", "method": options["method"], "batch": options["batch"], "clip": CLIP,
              "micro_batch": options["micro"], "steps": options["steps"], "scale": {"workers": 1},
              "max_tokens": 4096, "dtype": options["dtype"],
              **options.get("config", {})}  # fmt: skip
    config = build(TextConfig, values, "benchmark")
    module, tokenizer, _ = build_module(config)
    cases = open_dataset(Path(options["dataset"]), check_volumes=False).select(Split.TRAIN)
    rows = tokenize_cases(tokenizer, Task(options["task"]), cases, 4096)
    device = torch.device("cpu")
    batches = TextBatches(
        rows, BatchOrder(len(rows), config.batch, 0), config.micro_batch, 0, 1, device, config.packing
    )
    engine = DeepSpeedEngine(module, config, device)

    class Record:
        def after_step(self, step: int, metrics: Metrics) -> None:
            clock.end(metrics["ce"])
            clock.begin()

    clock.begin()
    run(engine, build_method(config), batches.step, lambda step: RATE, config.steps, callbacks=[Record()])


def trainer(options: dict[str, Any], clock: Clock) -> None:
    """Hugging Face Trainer or TRL's SFTTrainer."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback

    steps = ordered_rows(Path(options["dataset"]), Task(options["task"]), options["steps"], options["batch"])
    items = [
        {"input_ids": list(row.ids), "labels": [-100] * row.prompt_length + list(row.ids[row.prompt_length :])}
        for step in steps
        for row in step
    ]
    tokenizer = load_tokenizer("smollm2")
    tokenizer.padding_side = "right"
    half = options["dtype"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(base_folder("smollm2"), dtype=getattr(torch, options["dtype"]))

    class Timer(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.end()

        def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                clock.losses.append(float(logs["loss"]))

    common = {
        "output_dir": tempfile.mkdtemp(prefix="peer-"), "per_device_train_batch_size": options["micro"],
        "gradient_accumulation_steps": options["batch"] // options["micro"], "max_steps": options["steps"],
        "learning_rate": RATE, "lr_scheduler_type": "constant", "max_grad_norm": CLIP, "weight_decay": 0.0,
        "optim": "adamw_torch", "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "use_cpu": True, "bf16": half and options.get("autocast", True), "neftune_noise_alpha": ALPHA, "seed": 0,
        "train_sampling_strategy": "sequential", "gradient_checkpointing": options.get("checkpointing", False),
        "dataloader_pin_memory": False,
    }  # fmt: skip
    data = Dataset.from_list(items)
    if options["cell"] == "trl":
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(**common, max_length=None, padding_free=options.get("free", False))
        made: Any = SFTTrainer(
            model,
            args=arguments,
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=_lora(),
            callbacks=[Timer()],
        )
    else:
        from peft import get_peft_model
        from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

        made = Trainer(
            get_peft_model(model, _lora()), TrainingArguments(**common), train_dataset=data, callbacks=[Timer()],
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        )  # fmt: skip
    made.train()


def bare(options: dict[str, Any], clock: Clock) -> None:
    """NEFTune in a plain loop.

    Options: mask, autocast, packed, checkpointing, fused (bool), head ('full' or 'answer').
    """
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from rollama.text.attention import use_document_attention
    from rollama.text.batch import collate
    from rollama.text.fused import fuse
    from rollama.text.loss import AnswerHead
    from rollama.text.noise import Noise

    steps = ordered_rows(Path(options["dataset"]), Task(options["task"]), options["steps"], options["batch"])
    model = AutoModelForCausalLM.from_pretrained(base_folder("smollm2"), dtype=getattr(torch, options["dtype"]))
    autocast = options["autocast"] and options["dtype"] == "bfloat16"
    if not options["mask"]:
        use_document_attention(model)
    if options.get("checkpointing"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    peft = get_peft_model(model, _lora(), autocast_adapter_dtype=autocast)
    peft.train()
    if options.get("fused"):
        fuse(peft)
    causal: Any = peft.get_base_model()
    trained = [parameter for parameter in peft.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    head = AnswerHead(causal.lm_head.weight, 256)
    noise = Noise(ALPHA, 0)
    for rows in steps:
        clock.begin()
        tokens, total = sum(row.answer_length for row in rows), 0.0
        for first in range(0, len(rows), options["micro"]):
            some = rows[first : first + options["micro"]]
            batch = collate(some, [0] * len(some), tokens, len(rows), torch.device("cpu"), options["packed"])
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                embeddings = causal.get_input_embeddings()(batch.ids)
                embeddings = embeddings + noise.draw(batch, embeddings.shape[-1]).to(embeddings.dtype)
                more: dict[str, Any] = {"spans": batch.spans, "position_ids": batch.token_positions}
                if options["mask"]:
                    seen = torch.zeros_like(batch.ids)
                    for document in batch.documents:
                        seen[document.place] = 1
                    more = {"attention_mask": seen}
                states = causal.model(inputs_embeds=embeddings, use_cache=False, **more).last_hidden_state
                if options["head"] == "answer":
                    loss = head(states.flatten(0, 1)[batch.positions], batch.targets)[0] / tokens
                else:
                    labels = torch.full(batch.ids.shape, -100).flatten()
                    labels[batch.positions] = batch.targets
                    logits = causal.lm_head(states).flatten(0, 1).float()
                    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / tokens
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        clock.end(total)


def _lora() -> Any:
    from peft import LoraConfig

    from rollama.text.config import LINEARS

    return LoraConfig(
        r=RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0, target_modules=list(LINEARS), task_type="CAUSAL_LM"
    )


def main() -> None:
    """Run the cell that the JSON argument describes."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    options: dict[str, Any] = json.loads(sys.argv[1])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    clock = Clock()
    cells: dict[str, Callable[[dict[str, Any], Clock], None]] = {
        "ours": ours, "hf": trainer, "trl": trainer, "bare": bare,
    }  # fmt: skip
    cells[options["cell"]](options, clock)
    steps = ordered_rows(Path(options["dataset"]), Task(options["task"]), options["steps"], options["batch"])
    print(json.dumps({
        "seconds": clock.seconds[: options["steps"]], "losses": clock.losses, "peak_mib": peak_mib(),
        "answer": [sum(row.answer_length for row in step) for step in steps],
        "input": [sum(len(row.ids) for row in step) for step in steps],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
