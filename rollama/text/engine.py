"""Module and optimizer under DeepSpeed ZeRO, the same code on CPU (gloo) and GPU (NCCL).

What DeepSpeed does by itself, and what is asked of it here:

* it divides gradients by the number of ranks and, unless told otherwise, by the accumulation steps; the loop wants the
  *sum* of the shares, so the loss is multiplied by the number of ranks and the accumulation factor is switched off;
* its own checkpoints fit one number of ranks; `state` collects whole float32 tensors on rank 0 instead, or `pieces`
  (full fine-tuning under ZeRO-3) gives what each rank holds, and `load_state` deals either out to any number of ranks;
* on CPU it compiles a shared-memory extension at every start; that is marked as not available, so gloo is used and no
  compiler is needed.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from rollama.core.errors import CheckpointError
from rollama.core.imports import not_installed
from rollama.text.config import TextConfig
from rollama.text.model import trained_parameters
from rollama.training.loop import Metrics
from rollama.training.shards import Piece, part_of, shape_of

MOMENTS = ("exp_avg", "exp_avg_sq")
ROLES = ("param", *MOMENTS)
STEP = "adam/step"


def deepspeed_config(config: TextConfig, gpu: bool, trained: int) -> dict[str, Any]:
    """DeepSpeed's configuration of a run; `trained` is the number of trained values."""
    zero: dict[str, Any] = {
        "stage": config.zero.stage,
        "overlap_comm": config.zero.overlap and gpu,
        "contiguous_gradients": True,
        "reduce_bucket_size": max(1, min(config.zero.bucket, trained)),  # allocated at once, even for a small adapter
        "allgather_bucket_size": config.zero.bucket,
    }
    if config.zero.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": gpu}
    values: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # rows are counted by TextBatches; DeepSpeed only checks this
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.clip,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # its own CPU Adam has to be compiled
        "steps_per_print": 1_000_000_000,
    }
    if config.dtype == "bfloat16":
        values["bf16"] = {"enabled": True}
        values["data_types"] = {"grad_accum_dtype": "fp32"}
        values["communication_data_type"] = "fp32"
    return values


class DeepSpeedEngine:
    """`training.loop.Engine` over DeepSpeed with AdamW."""

    def __init__(self, module: nn.Module, config: TextConfig, device: torch.device) -> None:
        deepspeed = _import_deepspeed(device)
        _ensure_group(device)
        self.rank, self.world, self.device = dist.get_rank(), dist.get_world_size(), device
        module.to(device)
        parameters = trained_parameters(module)
        count = sum(parameter.numel() for parameter in parameters.values())
        optimizer = torch.optim.AdamW(list(parameters.values()), lr=config.lr, weight_decay=config.weight_decay)
        engine, _, _, _ = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            config=deepspeed_config(config, device.type == "cuda", count),
            dist_init_required=False,
        )
        self._engine: Any = engine
        self._adam: Any = optimizer
        self._stage = config.zero.stage
        self._trained = parameters
        self.sharded = config.zero.stage == 3 and not config.lora.enabled
        self.module: nn.Module = engine

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add this micro-batch's gradient to the step's."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self.world, scale_wrt_gas=False)

    def step(self, lr: float) -> None:
        """Clip the global gradient, apply AdamW at `lr`, clear the gradients."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()

    def reduce(self, values: Mapping[str, torch.Tensor]) -> Metrics:
        """Sum each value over the ranks (collective)."""
        names = sorted(values)
        stacked = torch.stack([values[name].detach().double().to(self.device) for name in names])
        dist.all_reduce(stacked)
        return dict(zip(names, stacked.tolist(), strict=True))

    def parameters(self) -> dict[str, torch.Tensor]:
        """The trained parameters, whole, float32, on rank 0; nothing elsewhere (collective)."""
        found = {}
        for name, parameter in self._trained.items():
            value = self._read(parameter, None)
            if self.rank == 0:
                found[name] = value
        return found

    def state(self) -> dict[str, torch.Tensor]:
        """Trained parameters and Adam's moments, whole, float32, and Adam's step count, on rank 0 (collective).

        Raises:
            CheckpointError: no step was made yet, so there are no moments.
        """
        state = {STEP: self._adam_step()}
        for name, parameter in self._trained.items():
            for role in ROLES:
                value = self._read(parameter, None if role == "param" else role)
                if self.rank == 0:
                    state[f"{role}/{name}"] = value
        return state if self.rank == 0 else {}

    def pieces(self) -> dict[str, Piece]:
        """What this rank holds of the same under ZeRO-3.

        Raises:
            CheckpointError: no step was made yet, so there are no moments.
        """
        from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

        step = self._adam_step()
        found = {STEP: Piece(0, (1,), step)} if self.rank == 0 else {}
        for name, parameter in self._trained.items():
            first, end = self._range(parameter)
            for role in ROLES if end > first else ():
                held = (
                    safe_get_local_fp32_param(parameter)
                    if role == "param"
                    else safe_get_local_optimizer_state(parameter, role)
                )
                shape = tuple(parameter.ds_shape)  # type: ignore[attr-defined]
                found[f"{role}/{name}"] = Piece(first, shape, held.flatten()[: end - first].float())
        return found

    def _range(self, parameter: Any) -> tuple[int, int]:
        """Which elements of a parameter this rank holds under ZeRO-3; the last ranks' parts may be padded."""
        part, whole = parameter.ds_tensor.numel(), parameter.ds_numel
        return min(part * self.rank, whole), min(part * (self.rank + 1), whole)

    def _adam_step(self) -> torch.Tensor:
        steps = [self._adam.state[master]["step"] for master in self._masters() if "step" in self._adam.state[master]]
        if not steps:
            raise CheckpointError("there is no optimizer state before the first step")
        return torch.as_tensor(steps[0], dtype=torch.float32).reshape(1).cpu()

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what `state` or the `pieces` of all ranks gave, on any number of ranks (collective).

        Raises:
            CheckpointError: names or shapes do not fit this module.
        """
        wanted = {STEP, *(f"{role}/{name}" for role in ROLES for name in self._trained)}
        if wanted != set(state):
            missing, added = sorted(wanted - set(state)), sorted(set(state) - wanted)
            raise CheckpointError(
                f"training state does not fit the model: missing {missing[:3]}, not known {added[:3]}"
            )
        for master in self._masters():
            self._adam.state[master] = {
                "step": state[STEP][0].clone(),
                **{key: torch.zeros_like(master.data) for key in MOMENTS},
            }
        if hasattr(self._engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()
        for name, parameter in self._trained.items():
            shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
            for role in ROLES:
                found = shape_of(state, f"{role}/{name}")
                if found != shape:
                    raise CheckpointError(f"{role}/{name}: shape {found}, the model needs {shape}")
                if self._stage == 3:
                    self._write_part(parameter, role, state, f"{role}/{name}")
                else:
                    value = state[f"{role}/{name}"].to(self.device)
                    self._write(parameter, None if role == "param" else role, value)

    def close(self) -> None:
        """Release DeepSpeed's hooks and buffers."""
        self._engine.destroy()

    def _masters(self) -> list[torch.Tensor]:
        """The tensors that AdamW steps: this rank's flat float32 partitions, or the parameters themselves."""
        wrapped = self._engine.optimizer
        for name in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition"):
            if hasattr(wrapped, name):
                return list(getattr(wrapped, name))
        return list(self._trained.values())

    def _read(self, parameter: nn.Parameter, key: str | None) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if self._stage == 0:
            value = parameter.data if key is None else self._adam.state[parameter][key]
        elif key is None:
            value = safe_get_full_fp32_param(parameter)
        else:
            value = safe_get_full_optimizer_state(parameter, key)
        return value.detach().float().cpu().clone()

    @torch.no_grad()
    def _write(self, parameter: Any, key: str | None, value: torch.Tensor) -> None:
        """Set a float32 tensor below ZeRO-3, and for a parameter also the copy that the forward pass uses."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if self._stage == 0:
            (parameter.data if key is None else self._adam.state[parameter][key]).copy_(value)
        elif key is not None:
            safe_set_full_optimizer_state(parameter, value, key)
        else:
            safe_set_full_fp32_param(parameter, value)
            parameter.data.copy_(value)

    @torch.no_grad()
    def _write_part(self, parameter: Any, role: str, state: Mapping[str, torch.Tensor], name: str) -> None:
        """Set this rank's part of a float32 tensor under ZeRO-3, and for a parameter also its working copy."""
        import deepspeed
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        first, end = self._range(parameter)
        held = part_of(state, name, first, end).to(self.device)
        own = nn.functional.pad(held, (0, parameter.ds_tensor.numel() - held.numel()))
        if role != "param":
            safe_set_local_optimizer_state(parameter, own, role)
            return
        safe_set_local_fp32_param(parameter, own)
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if self.rank == 0:  # the others receive it
                parameter.data.copy_(state[name].to(self.device))


def _import_deepspeed(device: torch.device) -> Any:
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when DeepSpeed is first used
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))
    with not_installed("mlflow"):  # its autotuner would load all of it
        import deepspeed
        import deepspeed.ops

    if device.type == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return deepspeed


def _ensure_group(device: torch.device) -> None:
    """A process group of one where the launcher made none; DeepSpeed needs one."""
    if dist.is_initialized():
        return
    store = Path(tempfile.mkdtemp(prefix="rollama-group-")) / "store"
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{store}", rank=0, world_size=1)
