"""What will probably be written next, guessed without the model, so that it can check several tokens in one pass.

Reading the weights is what a token costs, and reading them once serves some tokens as well as one. Summaries and plans
are written in few turns of phrase: after a handful of answers, the two last tokens tell the next often enough. The
model checks every guess and goes on from the first wrong one: the answer is the one that it writes without guesses
(greedy speculative decoding, arXiv 2211.17192, with a table for the small model).

The table lives in memory only. It holds pairs of tokens with what followed them, counted once an answer; a continuation
is proposed only after it occurred in two answers. Guesses change the time that an answer takes and nothing in it.
"""

from __future__ import annotations

from collections.abc import Sequence

BEGIN = -1
LEAST_ANSWERS = 2
LEAST_SHARE = 0.5
"""Of all continuations seen: a guess that is wrong more often than not costs more than it gains."""
MOST_PAIRS = 100_000


class Phrases:
    """Pairs of tokens and what followed them."""

    def __init__(self, most: int = MOST_PAIRS) -> None:
        """Begin empty; with more than `most` pairs, the rare ones are forgotten."""
        self.most = most
        self.seen: dict[tuple[int, int], dict[int, int]] = {}

    def learn(self, answer: Sequence[int]) -> None:
        """Count an answer's tokens, the one that ended it included."""
        tokens = (BEGIN, BEGIN, *answer)
        for before, last, following in set(zip(tokens, tokens[1:], tokens[2:], strict=False)):
            found = self.seen.setdefault((before, last), {})
            found[following] = found.get(following, 0) + 1
        if len(self.seen) > self.most:
            self._age()

    def guess(self, written: Sequence[int], most: int) -> list[int]:
        """At most so many tokens that probably follow, maybe none."""
        before, last = (BEGIN, BEGIN, *written[-2:])[-2:]
        guessed: list[int] = []
        while len(guessed) < most:
            found = self.seen.get((before, last))
            if found is None:
                break
            following = max(found, key=found.__getitem__)
            if found[following] < max(LEAST_ANSWERS, LEAST_SHARE * sum(found.values())):
                break
            guessed.append(following)
            before, last = last, following
        return guessed

    def _age(self) -> None:
        halved = {
            pair: {token: count // 2 for token, count in found.items() if count > 1}
            for pair, found in self.seen.items()
        }
        self.seen = {pair: found for pair, found in halved.items() if found}
