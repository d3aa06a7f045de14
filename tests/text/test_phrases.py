"""Guesses: what was seen often enough, and nothing else."""

from __future__ import annotations

from rollama.text.phrases import Phrases


def test_a_wording_is_proposed_after_two_answers() -> None:
    phrases = Phrases()
    phrases.learn([5, 6, 7, 8, 2])
    assert phrases.guess([], 9) == []
    phrases.learn([5, 6, 7, 9, 2])
    assert phrases.guess([], 9) == [5, 6, 7]  # after 6, 7 each was seen once
    assert phrases.guess([], 2) == [5, 6]
    assert phrases.guess([4, 5, 6], 9) == [7]
    assert phrases.guess([6], 9) == [] and phrases.guess([5, 6], 0) == [] and phrases.guess([5, 6], -1) == []


def test_what_one_answer_repeats_counts_once() -> None:
    phrases = Phrases()
    phrases.learn([5, 6, 7, 5, 6, 7, 5, 6, 7])
    assert phrases.guess([5, 6], 9) == []


def test_a_continuation_that_is_mostly_wrong_is_not_proposed() -> None:
    phrases = Phrases()
    for token in (7, 7, 8, 9, 10):
        phrases.learn([5, 6, token])
    assert phrases.guess([], 9) == [5, 6]
    phrases.learn([5, 6, 7])
    assert phrases.guess([], 9) == [5, 6, 7]


def test_circles_end_at_the_asked_length() -> None:
    phrases = Phrases()
    for first in (1, 2):
        phrases.learn([first, 5, 5, 5])
    assert phrases.guess([5, 5], 6) == [5] * 6


def test_the_rare_is_forgotten_first() -> None:
    phrases = Phrases(most=10)
    for _ in range(4):
        phrases.learn([1, 2, 3, 4])
    phrases.learn(range(20, 40))
    assert len(phrases.seen) <= 10
    assert phrases.guess([], 9) == [1, 2, 3, 4]
