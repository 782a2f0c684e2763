"""Private PostgreSQL servers for tests, and on which of those that are installed a test runs."""

from __future__ import annotations

import pytest

from groundswell.verify.clusters import Cluster, Installation, installations, missing

__all__ = ["Cluster", "Installation", "every", "installations", "missing"]


def every(*, pgq: bool = False) -> pytest.MarkDecorator:
    """Marks tests to run on the oldest and the newest installation, and on each with PgQ.

    With `pgq` on the latter alone. Skipped if there is none.
    """
    majors = [installation.major for installation in installations()]
    ends = set() if pgq else {min(majors, default=0), max(majors, default=0)}
    found = [pytest.param(i, id=str(i)) for i in installations() if i.pgq or i.major in ends]
    if reason := missing(pgq=pgq):
        found = [pytest.param(None, marks=pytest.mark.skip(reason), id="none")]
    return pytest.mark.parametrize("installation", found, indirect=True)
