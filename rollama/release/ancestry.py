"""A release and the lineage of the workspace that trains for it: withdrawn subjects before, the release after.

Who withdraws a subject may be sure that no model that saw it comes to the clinic any more; and who asks the lineage
what made a contour learns which releases held its models.
"""

from __future__ import annotations

from collections.abc import Mapping

from rollama.core.storage import locate
from rollama.lineage.events import Released
from rollama.lineage.ledger import open_ledger
from rollama.lineage.query import Lineage
from rollama.release.history import Record
from rollama.release.site import Site
from rollama.release.verdict import Refused


def refuse_withdrawn(site: Site, hashes: Mapping[str, str]) -> list[str]:
    """Refuse models that saw a withdrawn subject; the names of those that the lineage does not know.

    Args:
        site: its `lineage` names the workspace; without one nothing is asked.
        hashes: of the models' weights, by name.

    Raises:
        Refused: one of them saw one.
        DataError: the lineage is not whole, by its chains and by the signed heads where they are configured.
    """
    if site.lineage is None:
        return []
    ledger = open_ledger(locate(site.lineage))
    ledger.require_whole()
    known = Lineage(ledger)
    recorded = set(known.models())
    seen = {name: known.forbidden(digest) for name, digest in hashes.items() if digest in recorded}
    if told := [f"{name} saw {', '.join(cases)}" for name, cases in sorted(seen.items()) if cases]:
        raise Refused(f"subjects were withdrawn: {'; '.join(told)}. Train without them (rollama lineage --case)")
    return sorted(set(hashes) - set(seen))


def tell_lineage(site: Site, record: Record) -> None:
    """Write a release or roll-back into the lineage, once, and sign the ends of all its chains as they stand now.

    Raises:
        ConfigError: only one of key and place for heads is given, or the key cannot be used.
        DataError: the lineage is not whole; the release stands, and the same command tells the lineage again.
    """
    if site.lineage is not None:
        back = record.entry.kind == "rolled back"
        event = Released(models=dict(record.entry.hashes), record=record.identity, rolled_back=back)
        ledger = open_ledger(locate(site.lineage))
        ledger.record(event)
        ledger.vouch()
