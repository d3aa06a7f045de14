"""A site's side of a round, as a Flower ClientApp: take weights, train here, check, record, answer.

Order: what came in is recorded before it is used, what leaves is recorded before it is handed to Flower. The text of
an error goes to the coordinator, so only errors raised on purpose are told, which name rules and figures; of any
other its class alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod

from rollama.centres.federation import record
from rollama.centres.federation.config import Site, read_site
from rollama.centres.federation.past import tell_update
from rollama.centres.federation.policy import Withheld, check_forms, count_said, outgoing
from rollama.centres.federation.training import MODELS, NAME, WORK, train
from rollama.centres.federation.weights import Tensors, digest, distance, moving, read_artefact, total_bytes
from rollama.core.errors import RollamaError

ARRAYS, METRICS, REPLY, WEIGHT = "arrays", "metrics", "reply", "num-examples"
CLIPPING = "clipping_norm"
RECORD = "record.jsonl"

app = ClientApp()


FAILED = 1000
"""Code of the error message that says why nothing left; Flower's own codes are below."""


@app.train()
def train_round(message: Message, context: Context) -> Message:
    """Answer the coordinator's request to train."""
    path = Path(str(context.node_config["site"]))
    site = read_site(path)
    try:
        return answer(site, path.parent, message, context)
    except Exception as error:
        told = str(error) if isinstance(error, RollamaError) else type(error).__name__
        record.append(site.state / RECORD, "withheld", reason=told)
        return Message(Error(code=FAILED, reason=f"{site.name}: {told}"), reply_to=message)


def answer(site: Site, folder: Path, message: Message, context: Context) -> Message:
    """The reply with the trained weights.

    Raises:
        RollamaError: says why nothing leaves.
    """
    config = message.content.config_records["config"]
    number, federation, nonce = _number(message), str(config["federation"]), str(config["nonce"])
    received = {name: value.numpy() for name, value in message.content.array_records[ARRAYS].items()}
    record.append(
        site.state / RECORD, "came", federation=federation, round=number, nonce=nonce, sha256=digest(received),
        bytes=total_bytes(received), tensors=len(received), config=sorted(str(key) for key in config),
    )  # fmt: skip
    agreed = moving(*read_artefact(site.start))
    if str(config["start"]) != digest(agreed):
        raise Withheld("start: the federation begins with another model than this site agreed to")
    check_forms(received, agreed, "the weights that came")
    rounds = max(number, int(str(config["rounds"])))
    trained, cases = train(site, folder, received, number, rounds, float(config["prox-mu"]), _plain(federation))
    leaving, norms = outgoing(trained, received, agreed, cases, site.policy)

    def reply(_message: Message, _context: Context) -> Message:
        content = RecordDict(
            {
                ARRAYS: ArrayRecord({name: Array(value) for name, value in leaving.items()}),
                METRICS: MetricRecord({WEIGHT: count_said(cases, site.policy)}),
                REPLY: ConfigRecord({"site": site.name, "nonce": nonce}),
            }
        )
        return Message(content, reply_to=message)

    private = site.policy.local_privacy
    call = reply
    if private is not None:
        call = _wrapped(LocalDpMod(**private.model_dump()), call)
    if CLIPPING in config:
        call = _wrapped(fixedclipping_mod, call)
    final = call(message, context)
    if final.has_error():
        raise Withheld(f"differential privacy: {final.error.reason}")
    return _recorded(site, final, agreed, received, norms, number, federation, nonce)


def _recorded(
    site: Site,
    final: Message,
    agreed: Tensors,
    received: Tensors,
    norms: dict[str, float],
    number: int,
    federation: str,
    nonce: str,
) -> Message:
    """Write down what is about to leave, as it leaves: names, shapes, types and the hash of each tensor."""
    arrays = final.content.array_records[ARRAYS]
    sent = {name: value.numpy() for name, value in arrays.items()}
    sent = {
        name: value.astype(agreed[name].dtype) for name, value in sent.items()
    }  # Flower's clipping computes in double
    check_forms(sent, agreed, "what would leave")
    update = digest(sent)
    told = _tell(site, site.state / federation / WORK, update)
    norms = {**norms, "norm_sent": distance(sent, received)}  # differential privacy came after the policy
    final.content[ARRAYS] = ArrayRecord({name: Array(value) for name, value in sent.items()})
    record.append(
        site.state / RECORD, "left", federation=federation, round=number, nonce=nonce, sha256=update,
        bytes=total_bytes(sent), weight=int(final.content.metric_records[METRICS][WEIGHT]), site=site.name, **norms,
        lineage=told,
        tensors=[
            {"name": name, "shape": list(value.shape), "type": str(value.dtype), "sha256": digest({name: value})}
            for name, value in sent.items()
        ],
    )  # fmt: skip
    return final


def _tell(site: Site, work: Path, update: str) -> bool:
    """`tell_update`; the words of a failure name places of the hospital, so they stay in its record."""
    try:
        return tell_update(site.state, work, work / MODELS / NAME, update)
    except RollamaError as error:
        record.append(site.state / RECORD, "withheld", reason=str(error))
    raise Withheld("lineage: it cannot be written; the site's record says why")


def _wrapped(mod: Any, call: Any) -> Any:
    return lambda message, context: mod(message, context, call)


def _number(message: Message) -> int:
    value = message.content.config_records["config"]["round"]
    if not isinstance(value, int) or not 0 < value < 1_000_000:
        raise Withheld("the request names no round")
    return value


def _plain(name: str) -> str:
    """The federation's name as a folder's; what comes from outside must not choose a path."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise Withheld("the request's federation has an odd name")
    return name
