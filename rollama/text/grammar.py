"""Plans that always parse: while P writes, only tokens that the plan's text form allows.

P learns the form (`rollama.data.plan`) from examples, and most of its plans parse; one that does not guides the
segmentation by words nobody has checked. The texts of all plans are a regular language: `plan_pattern` writes it down
from the plan's own types and renderer, so there is no second copy of its words. At each step llguidance says which
tokens lead on inside that language; the others get the probability zero. Tokens that end an answer are allowed exactly
where a plan is complete. A text that was inside the language anyway is not changed, since its most likely tokens stay.

The grammar knows form and consistency, not medicine: a constrained plan parses, it is not more often right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch

from rollama.core.errors import ConfigError
from rollama.data.plan import (
    NONE,
    Boost,
    BoostKind,
    Dose,
    Guideline,
    Level,
    Side,
    Surgery,
    Technique,
    Volume,
    render_levels,
    render_values,
)

AROUND = " ?"
"""A space may stand before an answer (tokenizers that mark words) and after it (the Llama 2 form)."""


def plan_pattern() -> str:
    """A regular expression of every text that `render_plan` gives, in the syntax that Python and Rust share."""
    dose, none = _dose(), _literal(NONE)
    levels = [render_levels(chosen) for size in range(len(Level) + 1) for chosen in combinations(Level, size)]
    boosts = [_literal(str(Boost(kind=kind, dose=_SAMPLE))).replace(_literal(str(_SAMPLE)), dose) for kind in BoostKind]
    treated = (
        _any(map(_literal, Volume)), _any(map(_literal, levels)), _any([none, *boosts]), dose,
        _any(map(_literal, Technique)),
    )  # fmt: skip
    first = (_any(map(_literal, Side)), _any(map(_literal, Surgery)))
    plans = (_sentences((*first, *values)) for values in (treated, (none,) * len(treated)))
    guideline = _literal(render_values(_BLANKS, _BLANK).removeprefix(render_values(_BLANKS)))
    return _any(plans) + f"(?:{guideline.replace(_BLANK, _any(map(_literal, Guideline)))})?"


_BLANK = "\x00"
_BLANKS = (_BLANK,) * 7
_SAMPLE = Dose(gy=7, fractions=9)


def _sentences(patterns: Sequence[str]) -> str:
    """The sentences of a plan whose values match patterns."""
    pieces = _literal(render_values(_BLANKS)).split(_BLANK)
    return "".join(piece + pattern for piece, pattern in zip(pieces, [*patterns, ""], strict=True))


def _dose() -> str:
    """Every dose as it is rendered: no superfluous zero, at most six digits."""
    most = {name: _limit(name) for name in Dose.model_fields}
    whole = [_any(str(number) for number in range(low, min(10 * low, most["gy"]))) for low in (1, 10, 100, 1000)
             if low < most["gy"]]  # fmt: skip
    parts = [rf"{numbers}(?:\.[0-9]{{0,{4 - place}}}[1-9])?" for place, numbers in enumerate(whole)]
    parts += [str(most["gy"]), r"0\.0{0,3}[1-9](?:[0-9]{0,4}[1-9])?"]
    fractions = _any(str(number) for number in range(1, most["fractions"] + 1))
    before, after = _literal(str(_SAMPLE)).split("7")
    return _any(parts) + before + after.replace("9", fractions)


def _limit(name: str) -> int:
    """The largest value of a field of a dose."""
    return int(next(rule.le for rule in Dose.model_fields[name].metadata if hasattr(rule, "le")))


def _literal(text: str) -> str:
    return re.escape(text).replace("\\ ", " ").replace("\\\x00", "\x00")


def _any(patterns: Iterable[str]) -> str:
    return f"(?:{'|'.join(patterns)})"


def check_installed() -> None:
    """Refuse early where constrained plans cannot be written.

    Raises:
        ConfigError: llguidance is not installed.
    """
    try:
        import llguidance  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "plan_decoding: constrained plans need llguidance; install it with \"pip install 'rollama[train]'\", or "
            "choose 'free'"
        ) from error


class PlanGrammar:
    """The grammar on the tokens of one base. Built once (seconds); `walk` is cheap."""

    def __init__(self, tokenizer: Any, closing: Iterable[int], width: int) -> None:
        """Compile the grammar.

        Args:
            tokenizer: a fast Transformers tokenizer.
            closing: token ids that end an answer.
            width: number of logits, at least the tokenizer's.

        Raises:
            ConfigError: llguidance is not installed, or cannot read the tokenizer.
        """
        check_installed()
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        try:
            tokens = from_tokenizer(tokenizer, n_vocab=width, eos_token=sorted(closing))
        except ValueError as error:
            raise ConfigError(f"constrained plans: llguidance cannot read the base's tokenizer ({error})") from error
        self.width = width
        self._start = LLMatcher(tokens, LLMatcher.grammar_from_regex(AROUND + plan_pattern() + AROUND), log_level=0)
        if self._start.is_error():
            raise ConfigError(f"constrained plans: {self._start.get_error()}")

    def walk(self) -> Walk:
        """Begin a plan."""
        return Walk(self._start.deep_copy(), self.width)


class Walk:
    """How far one plan is."""

    def __init__(self, matcher: Any, width: int) -> None:
        self._matcher, self._width = matcher, width

    def allowed(self, row: np.ndarray) -> None:
        """Write the tokens that may follow into `row`: one bit a token, int32 (width / 32, rounded up)."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, row[None])

    def step(self, token: int) -> None:
        """Go on with a token that was allowed and ends nothing.

        Raises:
            ArithmeticError: it was not allowed; after `constrain` only where the model's outputs are not numbers.
        """
        if not self._matcher.consume_token(token):
            raise ArithmeticError("a token that the plan's grammar does not allow: are the model's outputs numbers?")


def constrain(logits: torch.Tensor, walks: Sequence[Walk | None]) -> torch.Tensor:
    """Logits (rows, vocabulary) with minus infinity where a row's walk does not lead on; rows without one stay."""
    if not any(walks):
        return logits
    words = np.full((len(walks), -(-logits.shape[1] // 32)), -1, dtype=np.int32)
    for row, walk in zip(words, walks, strict=True):
        if walk is not None:
            walk.allowed(row)
    bits = torch.from_numpy(words).to(logits.device)
    shifts = torch.arange(32, device=logits.device, dtype=torch.int32)
    open_ = ((bits[:, :, None] >> shifts) & 1).bool().flatten(1)[:, : logits.shape[1]]
    return logits.masked_fill(~open_, -torch.inf)
