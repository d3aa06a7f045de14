"""Trainings of the study of centres in this process, without Ray: as a hospital's site, or on all that is at hand.

As a command it is a site's training of a real federation, `training.command` in its site.yaml:

    python -m benchmarks.centres_training STUDY.json p northgate {seed} {init} {out}
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rollama.core.errors import ConfigError

SMALL = (
    "text.method=plain", "text.lora.enabled=false", "text.batch=16", "text.micro_batch=16", "text.lr=6e-3",
    "text.max_new_tokens=200", "text.steps=400", "segmentation.batch=8", "segmentation.micro_batch=8",
    "segmentation.method=plain", "segmentation.lr=3e-3", "segmentation.steps=240", "segmentation.prompt_every=4",
    "segmentation.alignment_depth=1", "segmentation.hu_range=[-250,250]",
)  # fmt: skip
"""What the preset `tiny` needs to learn something in a minute on one core: SEG at 12 mm, P as a whole tiny network.

SEG without noise: at alpha 5 the untrained text encoder's left and right are lost in it, and no model learns the side.
"""


@dataclass(frozen=True)
class Setup:
    """What decides the study's models.

    Attributes:
        preset, overrides: of the pooled training; every other one is derived from it.
        dataset: folder.
        rounds: of the federation; the preset's steps are spread over them.
        few_steps, few_lr: adaptation to few cases, as shares of the preset's steps and learning rate.
        device: cpu or cuda.
    """

    preset: str
    overrides: tuple[str, ...]
    dataset: str
    rounds: int
    few_steps: float = 0.05
    few_lr: float = 0.25
    device: str = "cpu"

    @classmethod
    def read(cls, path: Path) -> Setup:
        """The setup as `write` left it."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "overrides": tuple(values["overrides"])})

    def write(self, path: Path) -> None:
        """As JSON."""
        from rollama.core.files import write_json

        write_json(path, asdict(self))

    def config(self, what: str, seed: int) -> Any:
        """Configuration of the pooled training."""
        from rollama.cli.train import What, model_config
        from rollama.presets import load_preset

        small = SMALL if self.preset == "tiny" else ()
        chosen = load_preset(self.preset, [*small, *self.overrides])
        config = model_config(What(what), chosen)
        # One process trains a model: no checkpoint is needed on the way.
        scale = config.scale.model_dump() | {"workers": 1, "checkpoint_every": config.steps}
        return config.updated(seed=seed, scale=scale)

    def begin(self, what: str, seed: int) -> Any:
        """Of the start model: the network at its seed. A step of 1e-12 changes nothing that float32 could see."""
        config = self.config(what, seed)
        return config.updated(steps=1, lr=1e-12, warmup=0.0, centres=config.centres.model_dump() | {"cases": 1})

    def site(self, what: str, seed: int, centre: str, centres: int, number: int) -> Any:
        """Of one site's training in round `number` of a federation of so many centres.

        Raises:
            ConfigError: steps or batch cannot be dealt out evenly, so that compute would not be equal.
        """
        config = self.config(what, seed)
        if config.steps % self.rounds or config.batch % centres:
            raise ConfigError(
                f"{what}: {config.steps} steps in {self.rounds} rounds, batches of {config.batch} over {centres} "
                "centres: both must divide evenly"
            )
        batch = config.batch // centres
        changes: dict[str, Any] = {
            "steps": config.steps // self.rounds, "batch": batch, "micro_batch": min(batch, config.micro_batch),
            "seed": 1000 * seed + number, "part": (number, self.rounds),
            "centres": config.centres.model_dump() | {"only": (centre,)},
            "scale": config.scale.model_dump() | {"checkpoint_every": config.steps},
        }  # fmt: skip
        return config.updated(**changes, **({"measure": False} if what == "seg" else {}))

    def few(self, config: Any) -> Any:
        """Of an adaptation, from that of a whole training."""
        return config.updated(steps=max(1, round(self.few_steps * config.steps)), lr=self.few_lr * config.lr)


def fit(what: str, config: Any, dataset: Path, out: Path, init: Path | None, device: str) -> Path:
    """Train a model in this process, from the weights of `init` where given; nothing is done when it is there."""
    import torch

    from rollama.core.registry import Task
    from rollama.data.dataset import open_texts
    from rollama.training.artefact import artefact_hash
    from rollama.training.runs import is_trained, run_hash
    from rollama.training.worker import Worker

    if init is not None:
        config = config.updated(init=artefact_hash(init))
    if out.is_dir() and is_trained(out, run_hash(config, what, open_texts(dataset).info.content_hash)):
        return out
    with tempfile.TemporaryDirectory(prefix="rollama-") as folder:
        scratch = Path(folder)
        worker = Worker(
            rank=0, world=1, device=torch.device(device), resume=None, scratch=scratch, init=init,
            report=lambda *_: None, metrics_path=scratch / "metrics.jsonl",
        )  # fmt: skip
        if what == "seg":
            from rollama.segmentation.trainer import train_segmentation

            train_segmentation(config, dataset, out, worker)
        else:
            from rollama.text.trainer import train_text

            train_text(config, Task(what), dataset, out, worker)
    return out


def training_centres(dataset: Path) -> list[str]:
    """Names of the centres with training cases."""
    from rollama.data.case import Split
    from rollama.data.dataset import open_texts

    data = open_texts(dataset)
    return [centre for centre in data.info.centres if data.select(Split.TRAIN, centre=centre)]


def main() -> None:
    """A site's training, as its federation's command."""
    path, what, centre, number, init, out = sys.argv[1:7]
    seed = int(sys.argv[7]) if len(sys.argv) > 7 else 0
    import torch

    torch.set_num_threads(1)
    setup = Setup.read(Path(path))
    dataset = Path(setup.dataset)
    config = setup.site(what, seed, centre, len(training_centres(dataset)), int(number))
    fit(what, config, dataset, Path(out), Path(init), setup.device)


if __name__ == "__main__":
    main()
