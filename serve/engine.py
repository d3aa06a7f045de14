"""What the text deployment asks of whatever writes the tokens: the running batch of this package, or vLLM.

Both keep one base in memory with adapters of several releases on it. A handle is what an engine gives for a release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rollama.chain.run import Answer
from rollama.core.errors import ConfigError
from rollama.core.registry import EngineName, Task
from rollama.text.checkpoint import TextArtefact


class TextEngine(Protocol):
    """A base in memory that answers for the releases on it."""

    @property
    def alive(self) -> bool:
        """Whether it still answers; a replica whose engine does not is replaced."""

    async def generate(self, task: Task, text: str, deadline: float, model: Any) -> Answer:
        """The greedy answer of a task to a text, by the release whose handle is given.

        Raises:
            DataError: the text is empty or too long.
            TimeoutError: the deadline (seconds since 1970) passed.
        """

    async def adopt(self, artefacts: Mapping[Task, TextArtefact]) -> Any:
        """The handle of another release on this base; None when it does not stand on it.

        Raises:
            CheckpointError: an adapter does not fit the base.
        """

    async def forget(self, model: Any) -> None:
        """Give a release's adapters up as soon as nobody's text is written with them."""

    def retire(self) -> None:
        """End after what has been asked."""


def check_engine(name: EngineName) -> None:
    """Refuse early where an engine cannot run.

    Raises:
        ConfigError: it is not installed.
    """
    if name is EngineName.VLLM:
        from importlib.util import find_spec

        if find_spec("vllm") is None:
            raise ConfigError(
                "text_engine: vllm is not installed here; it needs an environment of its own (requirements/vllm.in), "
                "or choose 'batch'"
            )
