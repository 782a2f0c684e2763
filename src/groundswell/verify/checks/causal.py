"""Causal consistency of transactions: what is seen together, and what all in the end agree on."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import compress, count
from operator import ge, itemgetter
from typing import Final

from groundswell.verify.checks.facts import Txn, Violation

# All below are numbers of transactions, by their place in the list.
_Graph = list[list[int]]  # by transaction: those directly before it
_INITIAL: Final = -1  # what wrote the initial state
_NEVER: Final = sys.maxsize


def causal(txns: Sequence[Txn]) -> Violation | None:
    """Whether no order of these transactions explains what each session has read. Exact.

    The level is causal convergence (CCv; Bouajjani et al., POPL 2017), of transactions (TCC; Biswas
    and Enea, OOPSLA 2019): CO is what came before, in the session or as what was read, and so on; CF
    puts what a transaction knew of a key before what it read of it. The two together have no cycle.
    A transaction reads before it writes.

    With vector clocks over the k sessions O(n k), as AWDIT (PLDI 2025), and log n for each write that
    a session gets to know. A session that made a single write, which nobody read, does not count.
    """
    writers = {(key, value): i for i, txn in enumerate(txns) for key, value in txn.writes.items()}
    sources: list[dict[str, int]] = []
    for txn in txns:
        if thin_air := [
            key
            for key, value in txn.reads.items()
            if value is not None and (key, value) not in writers
        ]:
            what = f"ThinAirRead: {txn.reads[thin_air[0]]!r} of {thin_air[0]!r} was never written"
            return Violation(what, (txn.op,))
        sources.append(
            {
                key: _INITIAL if value is None else writers[key, value]
                for key, value in txn.reads.items()
            }
        )
    before = _before(txns, sources)
    order, cycle = _sorted(before)
    if cycle:
        return Violation("CyclicCO: each came before the next", _ops(txns, cycle))
    return _conflict(txns, sources, before, order)


def _conflict(
    txns: Sequence[Txn], sources: list[dict[str, int]], before: _Graph, order: list[int]
) -> Violation | None:
    past = _Past(txns, sources, order)
    wrote: defaultdict[str, list[int]] = defaultdict(list)
    for i, txn in enumerate(txns):
        for key in txn.writes:
            wrote[key].append(i)
    writers = {key: _Writers(past, of_key) for key, of_key in wrote.items()}
    shown_by: dict[tuple[int, int], int] = {}  # CF, and the reader that shows it
    for reader, of_keys in enumerate(sources):
        for key, source in of_keys.items():
            for writer in writers[key].met(reader, source) if key in writers else ():
                if source == _INITIAL:
                    what = f"WriteCOInitRead: {key!r} was read as never written, after a write"
                    return Violation(what, _ops(txns, [writer, reader]))
                first = past.first(writer, source)
                if first is None:
                    shown_by[writer, source] = reader
                elif first != writer:
                    what = f"WriteCORead: {key!r} was read as it was before a write before that"
                    return Violation(what, _ops(txns, [source, writer, reader]))
    if cycle := _without_order(before, shown_by):
        pairs = zip(cycle, cycle[1:] + cycle[:1], strict=True)
        readers = [shown_by[pair] for pair in pairs if pair in shown_by]
        what = "CyclicCF: of these writes each must come before the next"
        return Violation(what, _ops(txns, cycle + readers))
    return None


def _without_order(before: _Graph, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """A cycle of CO and of the pairs, or nothing; two that are each before the other first of all."""
    pairs = dict.fromkeys(pairs)
    for i, j in pairs:
        if i < j and (j, i) in pairs:
            return [i, j]
    before = [directly.copy() for directly in before]
    for i, j in pairs:
        before[j].append(i)
    return _sorted(before)[1]


def _before(txns: Sequence[Txn], sources: list[dict[str, int]]) -> _Graph:
    """What CO is the closure of: the session's transaction before, and those that were read."""
    before: _Graph = []
    last: dict[int, int] = {}
    for i, txn in enumerate(txns):
        directly = set(sources[i].values()) - {_INITIAL}
        if txn.session in last:
            directly.add(last[txn.session])
        before.append(sorted(directly))
        last[txn.session] = i
    return before


class _Past:
    """What each transaction has in its causal past, by vector clocks.

    The clock of a transaction has for each session how many of its transactions came before. What is
    of its own session its position tells, so that transactions share a clock until they read
    something new.
    """

    def __init__(
        self, txns: Sequence[Txn], sources: list[dict[str, int]], order: list[int]
    ) -> None:
        sizes = Counter(txn.session for txn in txns)
        read = {source for of_keys in sources for source in of_keys.values()}
        known = {txn.session for i, txn in enumerate(txns) if i in read or sizes[txn.session] > 1}
        numbers = {session: number for number, session in enumerate(sorted(known))}
        at: Counter[int] = Counter()
        self.nobodys = len(numbers)  # number that all those share of which nobody else knows
        self.session: list[int] = []  # of each transaction, numbered from 0
        self.position: list[int] = []  # in the session, from 1
        for txn in txns:
            at[txn.session] += 1
            self.session.append(numbers.get(txn.session, self.nobodys))
            self.position.append(at[txn.session])
        self.clocks: list[list[int]] = [[]] * len(txns)
        self._rank = [0] * len(txns)  # in an order that keeps what came before
        for rank, i in enumerate(order):
            self._rank[i] = rank
        self._tick(sources, order)

    def first(self, i: int, j: int) -> int | None:
        """Which of two came before the other, if they are not the same; None: neither."""
        if self._rank[i] > self._rank[j]:
            i, j = j, i
        of = self.session[i]
        known = self.position[j] if of == self.session[j] else self.clocks[j][of]
        return i if known >= self.position[i] else None

    def _tick(self, sources: list[dict[str, int]], order: list[int]) -> None:
        nothing = [0] * (self.nobodys + 1)
        latest = [nothing] * len(nothing)  # clock of each session
        for i in order:
            session = self.session[i]
            clock = nothing if session == self.nobodys else latest[session]
            for source in sources[i].values():
                of = self.session[source]
                if source != _INITIAL and of != session and clock[of] < self.position[source]:
                    clock = list(map(max, clock, self.clocks[source]))
                    clock[of] = self.position[source]
            self.clocks[i] = latest[session] = clock


class _Writers:
    """Who wrote a key, by session; and how much of that each session has met when it last read it."""

    def __init__(self, past: _Past, writers: list[int]) -> None:
        self._past = past
        of: defaultdict[int, list[int]] = defaultdict(list)
        for i in writers:
            if past.session[i] != past.nobodys:
                of[past.session[i]].append(i)
        self._writers = list(of.values())
        self._positions = [[*map(past.position.__getitem__, by), _NEVER] for by in of.values()]
        self._place = {session: place for place, session in enumerate(of)}
        # A getter of a single item would not make a tuple, hence one more; what is over is left out.
        self._clock = itemgetter(*of, past.nobodys, past.nobodys)
        self._next: dict[int, list[int]] = {}  # by session: positions of those not met yet
        self._shown: dict[int, int] = {}  # by session: what it read last

    def met(self, reader: int, source: int) -> list[int]:
        """The latest of each session that came before, without those that were before what was read.

        All that a session knew when it last read the key, CO and CF put before what it then read.
        """
        session = self._past.session[reader]
        found: list[int] = []
        following = self._next.get(session)
        if following is None:
            following = [positions[0] for positions in self._positions]
        clock = self._clock(self._past.clocks[reader])
        fresh = list(compress(count(), map(ge, clock, following)))
        known = [(place, clock[place]) for place in fresh]
        own = self._place.get(session)
        if own is not None:
            known.append((own, self._past.position[reader] - 1))
        for place, until in known:
            if following[place] <= until:
                behind = bisect_right(self._positions[place], until)
                following[place] = self._positions[place][behind]
                found.append(self._writers[place][behind - 1])
        if session != self._past.nobodys:
            self._next[session] = following
            shown = self._shown.get(session, _INITIAL)
            if shown not in (source, _INITIAL):
                found.append(shown)
            self._shown[session] = source
        return found


def _sorted(before: _Graph) -> tuple[list[int], list[int]]:
    """The transactions, each after those before it; or a cycle, if there is one."""
    after: _Graph = [[] for _ in before]
    missing = [len(directly) for directly in before]
    for i, directly in enumerate(before):
        for j in directly:
            after[j].append(i)
    order = [i for i, count in enumerate(missing) if not count]
    for i in order:
        for j in after[i]:
            missing[j] -= 1
            if not missing[j]:
                order.append(j)
    return order, [] if len(order) == len(before) else _cycle(before, missing)


def _cycle(before: _Graph, missing: list[int]) -> list[int]:
    """A short cycle among those that miss one before them, each before the next."""
    at = next(i for i, count in enumerate(missing) if count)
    passed: set[int] = set()
    while at not in passed:
        passed.add(at)
        at = next(j for j in before[at] if missing[j])
    # `at` is on a cycle; the shortest that it is on is found by breadth, backwards.
    towards: dict[int, int] = {}
    for i in (queue := [at]):
        for j in before[i]:
            if missing[j] and j not in towards:
                towards[j] = i
                queue.append(j)
        if at in towards:
            break
    cycle = [at]
    while (i := towards[cycle[-1]]) != at:
        cycle.append(i)
    return cycle


def _ops(txns: Sequence[Txn], found: list[int]) -> tuple[int, ...]:
    return tuple(sorted({txns[i].op for i in found}))
