"""What made a model, carried from one workspace's lineage to another: a model moves, and its past should move along.

A hospital that takes over a model trained elsewhere, or a federation's site whose rounds are trained in a folder that
is emptied, keeps the answer to "which models saw this case" that way.
"""

from __future__ import annotations

from rollama.lineage.events import Withdrawn
from rollama.lineage.ledger import Ledger
from rollama.lineage.query import Lineage


def carry_model(source: Ledger, target: Ledger, model: str) -> int:
    """Write into `target` how a model and those it began with were trained, on which cases, made how.

    Subjects that it saw and that were withdrawn in `source` are withdrawn in `target` too, under the ids by which the
    model saw them; this is written first, so that a carrying that was cut off leaves no unmarked model. What is there
    already is not written again.

    Args:
        source: the ledger that knows the model.
        target: the ledger that is to know it.
        model: its whole digest.

    Returns:
        How many trainings `source` knows of it; 0: nothing is known and nothing was written.

    Raises:
        ClusterError, DataError: a ledger cannot be read or written.
    """
    known = Lineage(source)
    wanted = (model, *known.ancestors(model))
    trained = [event for event in known.trained if event.model in wanted]
    for case in known.forbidden(model):
        for name in sorted({case} | (known.subject(case) & known.seen(model))):
            target.record(Withdrawn(case=name))
    for content in dict.fromkeys(event.data for event in trained):
        target.take_cases(source, content)
        for step in known.made(content):
            target.record(step)
    for event in trained:
        target.record(event)
    return len(trained)
