"""Flower's strategies as a federation's file names them, and their state between rounds.

FedAvg (arXiv 1602.05629), FedProx (1812.06127; its term is in the sites' training), FedAdam and FedYogi (2003.00295).
"""

from __future__ import annotations

from typing import Any

from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedProx,
    FedYogi,
)
from flwr.serverapp.strategy.strategy import Strategy as FlowerStrategy

from rollama.centres.federation.config import Federation, Strategy
from rollama.centres.federation.weights import Tensors

WEIGHT = "num-examples"
MOMENTS = ("m_t", "v_t")


def build_strategy(federation: Federation) -> FlowerStrategy:
    """The strategy, wrapped for differential privacy where the file asks for it."""
    common: dict[str, Any] = {
        "fraction_train": 1.0, "fraction_evaluate": 0.0, "min_train_nodes": federation.min_sites,
        "min_available_nodes": federation.min_sites, "weighted_by_key": WEIGHT,
    }  # fmt: skip
    adaptive = {"eta": federation.eta, "tau": federation.tau}
    inner: FlowerStrategy
    match federation.strategy:
        case Strategy.FEDAVG:
            inner = FedAvg(**common)
        case Strategy.FEDPROX:
            inner = FedProx(**common, proximal_mu=federation.prox_mu)
        case Strategy.FEDADAM:
            inner = FedAdam(**common, **adaptive)
        case Strategy.FEDYOGI:
            inner = FedYogi(**common, **adaptive)
    private = federation.privacy
    if private.kind == "none":
        return inner
    # Flower's noise is noise_multiplier * clipping_norm / sites; with more sites than min_sites it is more than needed.
    wrapper = (
        DifferentialPrivacyClientSideFixedClipping
        if private.clip_at == "site"
        else DifferentialPrivacyServerSideFixedClipping
    )
    return wrapper(inner, private.noise_multiplier, private.clipping_norm, federation.min_sites)


def strategy_state(strategy: Any) -> Tensors:
    """The moments of FedAdam or FedYogi; empty for the others."""
    return {
        f"{moment}/{name}": value
        for moment in MOMENTS
        for name, value in (getattr(strategy, moment, None) or {}).items()
    }


def restore(strategy: Any, state: Tensors) -> None:
    """Give a new strategy the moments that `strategy_state` gave."""
    for moment in MOMENTS if state else ():
        values = {name.split("/", 1)[1]: value for name, value in state.items() if name.startswith(f"{moment}/")}
        setattr(strategy, moment, values)
