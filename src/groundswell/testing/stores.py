"""The conformance suite as one class; the topics are in the files beside this one."""

from __future__ import annotations

from groundswell.testing.accounts import AccountSuite
from groundswell.testing.batches import BatchSuite
from groundswell.testing.claims import ClaimSuite
from groundswell.testing.edges import EdgeSuite
from groundswell.testing.feed import FeedSuite
from groundswell.testing.holds import HoldSuite
from groundswell.testing.items import ItemSuite
from groundswell.testing.lists import ListSuite
from groundswell.testing.objects import ObjectSuite
from groundswell.testing.rollups import RollupSuite
from groundswell.testing.together import TogetherSuite


class StoreConformance(
    EdgeSuite,
    ObjectSuite,
    BatchSuite,
    AccountSuite,
    HoldSuite,
    ClaimSuite,
    ListSuite,
    ItemSuite,
    RollupSuite,
    FeedSuite,
    TogetherSuite,
):
    """Every promise of `groundswell.store.Store`, as tests; see `Suite` for what a subclass provides."""
