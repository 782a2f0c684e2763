"""Pages: several numbers that were read at once, at any level, by any session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise

from groundswell.verify.checks.facts import Page, Violation


def comparable(pages: Sequence[Page]) -> Violation | None:
    """Whether of two pages of numbers that only grow each is ahead of the other, on different keys.

    No order of the changes has both states; Jepsen calls it a long fork. O(n log n) for each set of
    keys that some two pages share: sorted, any two are comparable if all neighbours are.
    """
    groups: defaultdict[frozenset[str], list[Page]] = defaultdict(list)
    for page in pages:
        groups[frozenset(page.counts)].append(page)
    shared = [*groups, *(keys & others for keys, others in combinations(groups, 2))]
    for keys in dict.fromkeys(shared):
        if len(keys) > 1:
            of_keys = [page for all, group in groups.items() if keys <= all for page in group]
            if violation := _fork(sorted(keys), of_keys):
                return violation
    return None


def paired(pages: Sequence[Page], pairs: Iterable[tuple[str, str]]) -> Violation | None:
    """Whether a page shows half of a write: two keys that only change together, and differ.

    O(n) for each page's keys and pairs.
    """
    partners: defaultdict[str, list[str]] = defaultdict(list)
    for key, partner in pairs:
        partners[key].append(partner)
    for page in pages:
        for key, count in page.counts.items():
            for partner in partners.get(key, ()):
                if page.counts.get(partner, count) != count:
                    what = f"{key!r} is {count} and {partner!r} is {page.counts[partner]}"
                    return Violation(what, (page.op,))
    return None


def _fork(keys: list[str], pages: list[Page]) -> Violation | None:
    rows = sorted(([page.counts[key] for key in keys], page.op) for page in pages)
    for (before, op), (after, later) in pairwise(rows):
        for key, was, is_ in zip(keys, before, after, strict=True):
            if was > is_:
                ahead = keys[[x < y for x, y in zip(before, after, strict=True)].index(True)]
                what = f"one page is ahead on {key!r}, the other on {ahead!r}"
                return Violation(what, tuple(sorted((op, later))))
    return None
