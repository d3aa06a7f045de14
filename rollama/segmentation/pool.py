"""One network for several patients at once: their windows take turns, or share a batch.

Patient after patient, somebody who changed two words of a plan waits for the whole body of somebody else. Here every
patient is prepared and put together in a thread of their own, and the network's thread takes the next windows of each
in turn. Windows look alike whoever they belong to, so as many as the device has room for go through together; the norms
are those of single instances, so nobody's result depends on the neighbours beyond the rounding of the same sums.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from rollama.segmentation.text_encoder import Words

Network = Callable[[torch.Tensor, torch.Tensor, Words | None], torch.Tensor]
"""Logits (n,1,x,y,z) from patches (n,c,x,y,z), origins (n,3) in mm and the words of each row."""


@dataclass(eq=False)
class _Asked:
    patches: torch.Tensor
    origin: torch.Tensor
    words: Words | None
    answer: Future[torch.Tensor] = field(default_factory=Future)

    def fits(self, other: _Asked) -> bool:
        """Whether the two can go through the network together."""
        if self.patches.shape[1:] != other.patches.shape[1:] or (self.words is None) != (other.words is None):
            return False
        if self.words is None or other.words is None:
            return True
        masked = self.words.mask is not None or other.words.mask is not None
        return not masked and self.words.states.shape[1:] == other.words.states.shape[1:]


class WindowPool:
    """Runs a network in a thread of its own for whoever asks; whoever asks waits."""

    def __init__(self, network: Network, most_voxels: int = 0) -> None:
        """Begin to wait for windows.

        Args:
            network: called from one thread only.
            most_voxels: of windows of several patients in one call; what one patient sends together always is.
        """
        self.network, self.most_voxels = network, most_voxels
        self.asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name="segmentation network", daemon=True)
        self.thread.start()

    def __call__(self, patches: torch.Tensor, origin: torch.Tensor, words: Words | None) -> torch.Tensor:
        """Logits of some windows; raises whatever the network raises."""
        item = _Asked(patches, origin, words)
        self.asked.put(item)
        return item.answer.result()

    def close(self) -> None:
        """End the thread after what it has been asked."""
        self.asked.put(None)

    def _serve(self) -> None:
        item = self.asked.get()
        while item is not None:
            some, voxels = [item], _voxels(item)
            try:
                while (item := self.asked.get_nowait()) is not None:
                    voxels += _voxels(item)
                    if voxels > self.most_voxels or not some[0].fits(item):
                        break
                    some.append(item)
            except queue.Empty:
                self._run(some)
                item = self.asked.get()
            else:
                self._run(some)

    def _run(self, some: list[_Asked]) -> None:
        try:
            with torch.inference_mode():
                words = None
                if some[0].words is not None:
                    found = [item.words for item in some if item.words is not None]
                    words = found[0] if len(found) == 1 else Words(torch.cat([one.states for one in found]))
                logits = self.network(
                    torch.cat([item.patches for item in some]), torch.cat([item.origin for item in some]), words
                )
                parts = logits.split([len(item.patches) for item in some])
        except Exception as error:
            if len(some) > 1:  # which one it was is not known: each is tried alone
                for item in some:
                    self._run([item])
            else:
                some[0].answer.set_exception(error)
            return
        for item, part in zip(some, parts, strict=True):
            item.answer.set_result(part)


def _voxels(item: _Asked) -> int:
    return item.patches[:, 0].numel()
