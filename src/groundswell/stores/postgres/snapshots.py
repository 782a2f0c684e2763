"""PostgreSQL's snapshots as revisions."""

from __future__ import annotations

from functools import lru_cache

from groundswell.revision import Revision


@lru_cache(maxsize=256)  # the same few come again and again
def parse(text: str) -> Revision:
    """The revision that a `pg_snapshot` (xmin:xmax:xip_list) taken on the primary stands for."""
    _, xmax, xip = text.split(":")
    return Revision.of(int(xmax), tuple(map(int, xip.split(",") if xip else ())))


def including(revision: Revision, xid: int) -> Revision:
    """What a transaction that found `revision`, and then committed as `xid`, has to show."""
    if revision.sees(xid):
        return revision
    running = [x for x in (*revision.xip, *range(revision.xmax, xid)) if x != xid]
    return Revision.of(max(revision.xmax, xid + 1), tuple(running))
