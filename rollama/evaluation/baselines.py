"""What a model must beat to have learned anything: lead words, the most frequent plan, the nearest training case.

Medical notes are repetitive. A summary that copies the head of the note, or the plan that most patients get, can score
high; a model's figure means little without them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rollama.core.errors import DataError


def lead_words(texts: Sequence[str], training_summaries: Sequence[str]) -> list[str]:
    """The first k words of each text, k being the mean length of the training summaries.

    Raises:
        DataError: no training summaries.
    """
    _require(training_summaries)
    length = round(sum(len(summary.split()) for summary in training_summaries) / len(training_summaries))
    return [" ".join(text.split()[: max(length, 1)]) for text in texts]


def most_frequent(training_answers: Sequence[str]) -> str:
    """The most frequent training answer; the first one met among equals.

    Raises:
        DataError: no training answers.
    """
    _require(training_answers)
    return Counter(training_answers).most_common(1)[0][0]


def nearest(texts: Sequence[str], training_texts: Sequence[str], training_answers: Sequence[str]) -> list[str]:
    """For each text the answer of the most similar training text (TF-IDF of words and word pairs, cosine).

    Raises:
        DataError: no training texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    _require(training_texts)
    if len(training_texts) != len(training_answers):
        raise ValueError("one answer a training text")
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    known = vectorizer.fit_transform(training_texts)
    similarity = vectorizer.transform(texts) @ known.T  # rows have unit length: the product is the cosine
    return [training_answers[int(row)] for row in similarity.toarray().argmax(axis=1)]


def _require(training: Sequence[str]) -> None:
    if not training:
        raise DataError("baselines: the dataset has no training cases to take them from")
