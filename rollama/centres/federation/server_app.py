"""The coordinator's side of a round, as a Flower ServerApp. Flower's strategies average; what surrounds them is here.

Flower's own loop (`Strategy.start`) keeps nothing between rounds and waits for every site that it asked. So the loop
is ours, over the strategies' public steps: ask the sites that are there (a late joiner simply is there), take what
comes until enough have answered and the others had their grace, judge every update, average, keep the round.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from rollama.centres.federation import record
from rollama.centres.federation.config import Federation, read_federation
from rollama.centres.federation.guard import Update, Verdict, sift
from rollama.centres.federation.past import tell_model
from rollama.centres.federation.state import RECORD, Standing, finish, keep_round, kept_rounds, standing
from rollama.centres.federation.strategies import WEIGHT, build_strategy, restore, strategy_state
from rollama.centres.federation.weights import Tensors, digest
from rollama.core.errors import RollamaError
from rollama.core.lock import alone
from rollama.core.manifest import read_manifest

POLL_S = 1.0
TRANSPORT = ("httpx", "httpcore", "requests", "urllib3", "grpc", "flwr")
"""Whose errors say that the SuperLink is away."""
ARRAYS, METRICS, REPLY = "arrays", "metrics", "reply"

log = logging.getLogger(__name__)
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation whose folder the run's configuration names, from where it stands to its last round.

    What is wrong with settings, weights or code is recorded as the run's end, and is not begun again by itself; a
    SuperLink that went away is not.
    """
    folder = Path(str(context.run_config["folder"]))
    path = folder / RECORD
    before = len(record.read(path))
    with alone(folder, "federation"):  # what another run holds has not stopped, so nothing is recorded of it
        if any(line["event"] in record.ENDS for line in record.read(path)[before:]):
            log.info("another run ended while this one waited for its turn")
            return
        try:
            coordinate(grid, folder, read_federation(folder))
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in TRANSPORT:
                told = str(error) if isinstance(error, RollamaError) else type(error).__name__
                record.append(path, "stopped", reason=told)
            raise


def coordinate(grid: Grid, folder: Path, federation: Federation) -> Path:
    """All rounds that are left; returns the final artefact."""
    now = standing(folder, federation)
    start = digest(standing(folder / "none", federation).weights)
    strategy = build_strategy(federation)
    restore(strategy, now.strategy)
    record.append(folder / RECORD, "started", round=now.done + 1, start=start, weights=digest(now.weights))
    while now.done < federation.rounds:
        number, nonce = now.done + 1, secrets.token_hex(16)
        config = ConfigRecord(
            {
                "federation": federation.name,
                "nonce": nonce,
                "round": number,
                "rounds": federation.rounds,
                "start": start,
                "prox-mu": federation.prox_mu,
            }
        )
        messages = list(strategy.configure_train(number, arrays_of(now.weights), config, grid))
        record.append(
            folder / RECORD, "asked", round=number, nonce=nonce, weights=digest(now.weights),
            nodes=[str(message.metadata.dst_node_id) for message in messages],
        )  # fmt: skip
        replies = collect(grid, messages, federation)
        verdicts, facts = judge(replies, now, nonce, federation, folder, number)
        good = {verdict.update.node: verdict.update.site for verdict in verdicts if verdict.refusal is None}
        changed = len(good) >= federation.min_sites
        if changed:
            kept = [prepared(reply, federation) for reply in in_order(replies, good)]
            arrays, _ = strategy.aggregate_train(number, kept)
            if arrays is None:
                raise RollamaError(f"round {number}: Flower's {federation.strategy} gave no weights")
            now.weights = {name: now.weights[name].dtype.type(value.numpy()) for name, value in sorted(arrays.items())}
            now.strategy = strategy_state(strategy)
        now.done = number
        now.seen |= {verdict.sha256: number for verdict in verdicts}
        keep_round(folder, federation, start, now, {"changed": changed, "updates": facts})
        record.append(
            folder / RECORD, "finished", round=number, changed=changed, accepted=len(good), weights=digest(now.weights)
        )
    if digest(now.weights) == start:
        raise RollamaError(f"{federation.name}: no round changed the start model; 'rollama federation status' says why")
    model = finish(folder, federation, now)
    tell_model(folder, read_manifest(model), kept_rounds(folder, now.done))
    record.append(folder / RECORD, "model", rounds=now.done, weights=digest(now.weights))
    return model


def collect(grid: Grid, messages: Iterable[Message], federation: Federation) -> list[Message]:
    """Replies, until all have come, or enough and the others had their grace, or time is up."""
    waiting = {name for name in grid.push_messages(messages) if name}
    asked, found = len(waiting), list[Message]()
    deadline = time.monotonic() + federation.round_timeout_s
    while waiting and time.monotonic() < deadline:
        replies = list(grid.pull_messages(waiting))
        waiting -= {reply.metadata.reply_to_message_id for reply in replies}
        found += replies
        if replies and sum(not reply.has_error() for reply in found) >= federation.min_sites:
            deadline = min(deadline, time.monotonic() + federation.grace_s)
        if waiting:
            time.sleep(POLL_S)
    log.info("%d of %d sites answered", len(found), asked)
    return found


def judge(
    replies: Iterable[Message], now: Standing, nonce: str, federation: Federation, folder: Path, number: int
) -> tuple[list[Verdict], list[dict[str, Any]]]:
    """Verdicts on updates, and a line on every reply for the round's facts; all of it is recorded."""
    updates, facts = [], list[dict[str, Any]]()
    for reply in replies:
        node = str(reply.metadata.src_node_id)
        if reply.has_error():
            record.append(folder / RECORD, "failed", round=number, node=node, reason=str(reply.error.reason)[:300])
            continue
        try:
            updates.append(read_update(reply))
        except (KeyError, ValueError, TypeError, StopIteration) as error:
            record.append(folder / RECORD, "unreadable", round=number, node=node, reason=type(error).__name__)
    verdicts = sift(updates, now.weights, nonce, now.seen, federation.guard)
    for verdict in verdicts:
        line = verdict.facts
        facts.append(line)
        record.append(folder / RECORD, "refused" if verdict.refusal else "accepted", round=number, **line)
    return verdicts, facts


def in_order(replies: Iterable[Message], sites: Mapping[str, str]) -> list[Message]:
    """The replies of these nodes (node -> site), by site: float sums must not depend on who answers first."""
    kept = [reply for reply in replies if str(reply.metadata.src_node_id) in sites]
    return sorted(kept, key=lambda reply: (sites[node := str(reply.metadata.src_node_id)], node))


def arrays_of(weights: Tensors) -> ArrayRecord:
    """Tensors as Flower carries them."""
    return ArrayRecord({name: Array(value) for name, value in weights.items()})


def read_update(reply: Message) -> Update:
    """What a site sent, in NumPy.

    Raises:
        KeyError, ValueError, TypeError: it is not of the agreed form.
    """
    content = reply.content
    tensors = {name: value.numpy() for name, value in content.array_records[ARRAYS].items()}
    said = content.config_records[REPLY]
    return Update(
        str(reply.metadata.src_node_id), str(said["site"])[:64], tensors,
        float(content.metric_records[METRICS][WEIGHT]), str(said["nonce"]),
    )  # fmt: skip


def prepared(reply: Message, federation: Federation) -> Message:
    """A reply with what Flower's strategies expect and no more: one record of arrays, one of metrics."""
    weight = float(reply.content.metric_records[METRICS][WEIGHT]) if federation.weight_by_cases else 1.0
    arrays = reply.content.array_records[ARRAYS]
    reply.content = RecordDict({ARRAYS: arrays, METRICS: _metrics(weight)})
    return reply


def _metrics(weight: float) -> Any:
    from flwr.app import MetricRecord

    return MetricRecord({WEIGHT: weight})
