"""The two files of a federation: what the coordinator decides, and what each site allows.

They are separate because they belong to different people. A site never does what its own file does not say, whatever
the coordinator's says; so the file of the site holds the policy, the command that trains and the digest of the start
model.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rollama.core.config import StrictModel, build, read_yaml

FEDERATION_FILE, SITE_FILE = "federation.yaml", "site.yaml"


class Strategy(StrEnum):
    """How updates become the next weights; all are Flower's own."""

    FEDAVG = "fedavg"
    FEDPROX = "fedprox"
    FEDADAM = "fedadam"
    FEDYOGI = "fedyogi"


class PrivacySection(StrictModel):
    """Central differential privacy by Flower's strategies: each update is clipped, noise goes onto their mean."""

    kind: Literal["none", "central"] = "none"
    clip_at: Literal["coordinator", "site"] = Field("site", description="who clips an update to clipping_norm")
    clipping_norm: float = Field(1.0, gt=0)
    noise_multiplier: float = Field(1.0, ge=0, description="noise over clipping_norm, for min_sites updates")


class GuardSection(StrictModel):
    """When the coordinator refuses an update."""

    max_relative: float = Field(2.0, gt=0, description="largest norm of an update over that of the weights")
    max_times_median: float = Field(
        10.0, gt=1, description="largest norm over the median of the round's, from three updates on"
    )


class Federation(StrictModel):
    """The coordinator's file, `federation.yaml`. Paths are relative to its folder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    start: Path = Field(Path("start"), description="artefact that all begin with")
    rounds: int = Field(ge=1)
    strategy: Strategy = Strategy.FEDAVG
    prox_mu: float = Field(0.0, ge=0, description="of fedprox")
    eta: float = Field(0.01, gt=0, description="step of fedadam and fedyogi on the coordinator")
    tau: float = Field(1e-3, gt=0, description="adaptivity of fedadam and fedyogi")
    min_sites: int = Field(2, ge=1, description="updates without which a round changes nothing")
    weight_by_cases: bool = Field(True, description="weigh sites by their cases; false: alike")
    round_timeout_s: float = Field(3600, gt=0)
    grace_s: float = Field(60, ge=0, description="how long others are waited for once min_sites have answered")
    guard: GuardSection = GuardSection()
    privacy: PrivacySection = PrivacySection()
    secure_aggregation: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.strategy is Strategy.FEDPROX) != bool(self.prox_mu):
            raise ValueError(
                f"prox_mu {self.prox_mu} with strategy {self.strategy}: fedprox needs prox_mu above 0, others 0"
            )
        private = self.privacy.kind != "none"
        if private and self.strategy in (Strategy.FEDADAM, Strategy.FEDYOGI):
            raise ValueError("privacy central goes with fedavg and fedprox only: Flower's noise is made for their mean")
        if private and self.weight_by_cases:
            raise ValueError("privacy central needs weight_by_cases false: its noise is for sites that weigh alike")
        if self.secure_aggregation:
            raise ValueError(
                "secure_aggregation: not offered. Flower 1.42 has SecAgg+ for its older strategies only "
                "(flwr.server.workflow), which neither resume nor record a round, and hidden updates cannot be refused"
            )
        return self


class CountsPolicy(StrEnum):
    """What may be said of the number of cases."""

    CASES = "cases"
    NONE = "none"


class LocalPrivacy(StrictModel):
    """Flower's LocalDpMod: the update is clipped and noise added before anything leaves the site."""

    clipping_norm: float = Field(gt=0)
    sensitivity: float = Field(gt=0)
    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)


class Policy(StrictModel):
    """What may leave the site. Checked at the site, on what is about to leave."""

    tensors: tuple[str, ...] = Field(
        ("*",), min_length=1, description="names (with * and ?) that may leave; every tensor must match one"
    )
    max_norm: float = Field(gt=0, description="a larger update is scaled down to this Euclidean norm")
    max_relative: float = Field(1.0, gt=0, description="an update larger than this share of the weights' norm stays")
    min_cases: int = Field(5, ge=1, description="nothing leaves that was trained on fewer cases")
    counts: CountsPolicy = Field(CountsPolicy.NONE, description="cases: the number of training cases may leave")
    local_privacy: LocalPrivacy | None = None


class Training(StrictModel):
    """The site's own training.

    Placeholders of `command`: init, out, work, name, prox_mu, seed (the round), rounds, task.
    """

    command: tuple[str, ...] = Field(min_length=1, description="must leave the trained model in the folder {out}")
    timeout_s: float = Field(3600, gt=0)
    environment: dict[str, str] = Field({}, description="more variables for the command")


class Site(StrictModel):
    """The site's file, `site.yaml`. Paths are relative to its folder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    coordinator: str = Field(pattern=r"^[^/\s]+:\d+$", description="host:port")
    ca: Path = Field(Path("ca.pem"), description="certificate authority of the coordinator's certificate")
    key: Path = Field(Path("site.key"), description="private key, as 'rollama federation key' makes it")
    start: Path = Field(Path("start"), description="the start model; a federation that begins with another is refused")
    state: Path = Field(Path("state"), description="record and working files")
    local_port: int = Field(0, ge=0, le=65535, description="port on 127.0.0.1 between Flower's own processes; 0: free")
    training: Training
    policy: Policy


def read_federation(folder: Path) -> Federation:
    """The coordinator's file in a folder, with absolute paths.

    Raises:
        ConfigError: it is missing or wrong, by key.
    """
    path = folder / FEDERATION_FILE
    found = build(Federation, read_yaml(path), str(path))
    return found.model_copy(update={"start": (folder / found.start).resolve()})


def read_site(path: Path) -> Site:
    """A site's file, with absolute paths.

    Raises:
        ConfigError: it is missing or wrong, by key.
    """
    found = build(Site, read_yaml(path), str(path))
    here = path.resolve().parent
    return found.model_copy(
        update={key: (here / getattr(found, key)).resolve() for key in ("ca", "key", "start", "state")}
    )
