"""Kubernetes quantities ("500m", "12Gi", "2e3") as numbers, to be checked and added up before submission."""

from __future__ import annotations

import re

from rollama.core.errors import ConfigError

_FACTORS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(?:([eE][+-]?\d+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?")


def parse(text: str | int | float, key: str) -> float:
    """Value of a quantity in cores, bytes or pieces.

    Raises:
        ConfigError: not a quantity Kubernetes accepts; `key` names it in the message.
    """
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ConfigError(f"{key}: found {text!r}; accepted are Kubernetes quantities such as 500m, 4, 512Mi, 12Gi")
    number, exponent, suffix = match.groups()
    return float(number + (exponent or "")) * _FACTORS[suffix or ""]


def memory(text: str, key: str) -> float:
    """Bytes of a memory quantity.

    Raises:
        ConfigError: not a quantity, or so small that the unit was forgotten ("8" are eight bytes, "400m" is less).
    """
    value = parse(text, key)
    if value < 2**20:
        raise ConfigError(f"{key}: found {text!r}, less than one MiB; give a unit, such as 512Mi or 12Gi")
    return value


def gib(value: float) -> str:
    """Bytes as a memory quantity, in MiB when they do not make whole GiB."""
    mib = -(-int(value) // 2**20)
    return f"{mib // 1024}Gi" if mib % 1024 == 0 else f"{mib}Mi"


def cores(value: float) -> str:
    """CPU cores for people: 2, 0.5."""
    return f"{value:g}"
