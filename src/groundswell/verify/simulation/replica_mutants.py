"""Bugs planted in replicas and what feeds and fills them, and in commits."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

from msgspec.structs import replace

from groundswell import committer, fills, follower
from groundswell.errors import Overloaded, StoreUnavailable
from groundswell.model import Add, Counter, Document
from groundswell.replica import Held
from groundswell.replicas.memory import MemoryReplica
from groundswell.revision import NOTHING, Revision
from groundswell.store import Changed, Committed
from groundswell.verify.simulation.mutants import (
    BACK,
    CAUSE,
    DIES,
    LINEAR,
    LOST,
    MORE,
    OLDER,
    ONE_STATE,
    OWN,
    PAGE,
    PAIR,
    TRUTH,
    Patch,
    instead,
    mutant,
)
from groundswell.verify.simulation.store import SimulatedStore


def _apply(self: MemoryReplica, number: int, counts: Any, documents: Any, revision: Any) -> None:
    for change in counts:
        self._counters[change.kind, change.target] = Counter(change.count, change.sum)
    for document in documents:
        self._documents[document.id] = document
    self.standing = replace(self.standing, rollup=number, revision=revision)


@mutant(BACK, ONE_STATE, OLDER, TRUTH)
def rollups_are_applied_out_of_order() -> Patch:
    """The answers that were held back are applied newest first, and nobody looks at their numbers."""

    def apply(original: Any, self: Any) -> None:
        self._held_back.rotate(1)
        original(self)

    def unguarded(original: Any, self: Any, done: Any) -> None:
        _apply(self, done.number, done.counts, done.documents, done.revision)

    stack = contextlib.ExitStack()
    stack.enter_context(instead(follower.Follower, "_apply", apply))
    stack.enter_context(instead(MemoryReplica, "apply", unguarded))
    return stack


@mutant(ONE_STATE, OLDER, TRUTH)
def a_rollup_is_skipped() -> Patch:
    """Of several rollups in one answer the first is passed over."""

    async def after(original: Any, self: Any, number: int) -> Any:
        asked_s, feed = await original(self, number)
        if len(feed.rollups) > 1:
            first = feed.rollups[0]
            bare = replace(first, counts=(), documents=())
            feed = replace(feed, rollups=(bare, *feed.rollups[1:]))
        return asked_s, feed

    return instead(follower.Tail, "after", after)


@mutant(OWN, BACK, TRUTH, CAUSE)
def a_rollup_brings_no_objects() -> Patch:
    """Only the counts of a rollup are applied."""

    def apply(original: Any, self: Any, done: Any) -> None:
        original(self, replace(done, documents=()))

    return instead(MemoryReplica, "apply", apply)


@mutant(ONE_STATE, OWN, BACK, PAIR)
def a_replica_moves_before_its_rows() -> Patch:
    """The standing is replaced at once, the counts a moment later."""

    def apply(original: Any, self: MemoryReplica, done: Any) -> None:
        original(self, replace(done, counts=()))
        loop = asyncio.get_running_loop()
        loop.call_later(0.003, _late, self, done)

    def _late(self: MemoryReplica, done: Any) -> None:
        for change in done.counts:
            if (change.kind, change.target) in self._counters:
                counter = Counter(change.count, change.sum)
                self._counters[change.kind, change.target] = counter

    return instead(MemoryReplica, "apply", apply)


@mutant(BACK, OWN, OLDER, TRUTH)
def a_replica_begins_anew_with_old_rows() -> Patch:
    """What it held stays when there is no way to where it stands now."""

    def reset(original: Any, self: MemoryReplica, epoch: int, at: Any) -> None:
        counters, documents = dict(self._counters._rows), dict(self._documents._rows)
        original(self, epoch, at)
        for key, counter in counters.items():
            self._counters[key] = counter
        for id_, document in documents.items():
            self._documents[id_] = document

    return instead(MemoryReplica, "reset", reset)


@mutant(TRUTH, OLDER, DIES)
def a_follower_goes_on_where_it_is_behind() -> Patch:
    """That rollups are no longer kept is not noticed."""

    async def after(original: Any, self: Any, number: int) -> Any:
        asked_s, feed = await original(self, number)
        return asked_s, replace(feed, behind=feed.behind and number < 0)

    return instead(follower.Tail, "after", after)


@mutant(OLDER)
def the_age_begins_with_the_answer() -> Patch:
    """A replica counts as fresh when the store has answered, not when it was asked."""

    async def ask(original: Any, self: Any, number: int) -> Any:
        _, feed = await original(self, number)
        return self._clock(), feed

    return instead(follower.Tail, "_ask", ask)


@mutant(OLDER)
def every_answer_makes_a_replica_fresh() -> Patch:
    """Whether the replica shows what there was is not looked at."""

    def certify(original: Any, self: Any, asked_s: float, head: Revision) -> None:
        self.replica.certify(asked_s)

    return instead(follower.Follower, "_certify", certify)


# --- fills --------------------------------------------------------------------------------------


@mutant(ONE_STATE, PAIR, BACK)
def a_fill_is_newer_than_the_replica() -> Patch:
    """A row is taken over although it was changed after where the replica stands."""

    def fill(original: Any, self: MemoryReplica, key: Any, row: Any) -> None:
        if key not in self._counters:
            self._counters[key] = row.counter

    return instead(MemoryReplica, "_fill_counter", fill)


@mutant(ONE_STATE, BACK, OWN, OLDER, TRUTH)
def a_slow_fill_overwrites_what_is_newer() -> Patch:
    """What the feed has brought meanwhile is replaced by what was read before."""

    async def fill(original: Any, self: MemoryReplica, keys: Any, read: Any) -> None:
        for key, row in zip(keys, read.rows, strict=True):
            if row.changed <= self.standing.rollup:
                self._counters[key] = row.counter

    return instead(MemoryReplica, "fill_counters", fill)


@mutant(ONE_STATE, BACK, OWN, OLDER, TRUTH)
def what_cannot_be_filled_is_zero() -> Patch:
    """A counter that was changed since is shown as one that did not exist yet."""

    def fill(original: Any, self: MemoryReplica, key: Any, row: Any) -> None:
        original(self, key, row)
        if key not in self._counters:
            self._counters[key] = Counter(0)

    return instead(MemoryReplica, "_fill_counter", fill)


@mutant(BACK, CAUSE, OWN)
def an_object_is_newer_than_the_replica() -> Patch:
    """An object is taken over although the replica does not see who wrote it."""

    async def fill(original: Any, self: MemoryReplica, ids: Any, read: Any) -> None:
        for id_, row in zip(ids, read.rows, strict=True):
            if id_ not in self._documents:
                self._documents[id_] = row or Document(id_, "", 0, 0, None)

    return instead(MemoryReplica, "fill_documents", fill)


@mutant(BACK, OWN, CAUSE, TRUTH)
def an_object_unseen_is_none() -> Patch:
    """Where the replica does not see an object's newest version, it shows none at all."""

    async def fill(original: Any, self: MemoryReplica, ids: Any, read: Any) -> None:
        await original(self, ids, read)
        for id_ in ids:
            if id_ not in self._documents:
                self._documents[id_] = Document(id_, "", 0, 0, None)

    return instead(MemoryReplica, "fill_documents", fill)


@mutant(ONE_STATE, PAIR)
def keys_are_read_one_by_one() -> Patch:
    """Several counts of one answer are read at several moments."""

    async def counters(original: Any, self: Any, replica: Any, keys: Any) -> Any:
        rows: list[Any] = []
        held = None
        for key in keys:
            held = await original(self, replica, [key])
            if held is None:
                return None
            rows += held.rows
            await asyncio.sleep(0.001)
        return held and Held(held.standing, rows)

    return instead(fills.Fills, "counters", counters)


# --- pages --------------------------------------------------------------------------------------


@mutant(PAGE, ONE_STATE, BACK)
def a_list_is_kept_while_its_key_waits() -> Patch:
    """Edges are taken over although not all of them are in the count yet."""

    def fill(original: Any, self: MemoryReplica, sight: Any, row: Any) -> None:
        original(self, sight, replace(row, waiting=False))

    return instead(MemoryReplica, "_fill_edges", fill)


@mutant(PAGE, ONE_STATE, OLDER, BACK, OWN)
def a_list_outlives_its_count() -> Patch:
    """A rollup changes the count of a target and leaves its list as it was."""

    def apply(original: Any, self: MemoryReplica, done: Any) -> None:
        lists = dict(self._lists._rows)
        original(self, done)
        for key, listed in lists.items():
            self._lists[key] = listed

    return instead(MemoryReplica, "apply", apply)


@mutant(PAGE)
def a_viewer_outlives_the_list() -> Patch:
    """Whether a viewer's edge exists is kept when the list beside it is not."""

    def fill(original: Any, self: MemoryReplica, sight: Any, row: Any) -> None:
        self._numbers = itertools.repeat(int(sight.key[1]))  # type: ignore[assignment]
        original(self, sight, row)

    return instead(MemoryReplica, "_fill_edges", fill)


@mutant(LINEAR, OLDER, OWN, BACK)
def a_page_is_filled_from_anywhere() -> Patch:
    """A page that no replica holds is answered by the newest rollup's counts."""

    async def items(original: Any, self: SimulatedStore, sights: Any) -> Any:
        found = await original(self, sights)
        if found is None:
            return None
        rows = tuple(
            replace(row, item=replace(row.item, counter=row.row.counter)) for row in found.rows
        )
        return replace(found, rows=rows)

    return instead(SimulatedStore, "items", items)


# --- commits ------------------------------------------------------------------------------------


@mutant(LOST, OWN)
def no_answer_is_taken_for_a_yes() -> Patch:
    """A commit without an answer is acknowledged."""

    async def commit(original: Any, self: Any, group: Any) -> None:
        store = self._store

        class Optimist:
            async def commit(self, batches: Any) -> Any:
                try:
                    return await store.commit(batches)
                except StoreUnavailable:
                    if not all(isinstance(w, Add) for batch in batches for w in batch.writes):
                        raise
                    return [
                        Committed((Changed(True),) * len(batch.writes), None, 0, (), NOTHING)
                        for batch in batches
                    ]

        self._store = Optimist()
        try:
            await original(self, group)
        finally:
            self._store = store

    return instead(committer.Committer, "_commit", commit)


@mutant(MORE, LOST, LINEAR, "each transfer once", "counts are their edges")
def no_answer_is_taken_for_a_no() -> Patch:
    """A commit without an answer is told as one that did not happen."""

    def fail(original: Any, future: Any, error: Exception) -> None:
        refused = Overloaded("Nothing was changed.")
        original(future, refused if isinstance(error, StoreUnavailable) else error)

    return instead(committer, "_fail", fail)


@mutant(OWN, "each write changes something once", DIES, LOST)
def answers_of_a_group_are_mixed_up() -> Patch:
    """What became of one caller's writes is told to another one of the same group commit."""

    async def commit(original: Any, self: Any, group: Any) -> None:
        waiting = [future for _, future in group]
        turned = [*waiting[1:], *waiting[:1]]
        await original(
            self, [(batch, future) for (batch, _), future in zip(group, turned, strict=True)]
        )

    return instead(committer.Committer, "_commit", commit)


@mutant("linearizable: one order of writes and reads", CAUSE, "each write changes something once")
def an_unknown_commit_is_sent_again() -> Patch:
    """After a lost answer the same writes are sent as new ones, after others' perhaps."""

    async def commit(original: Any, self: Any, group: Any) -> None:
        store = self._store

        class Stubborn:
            async def commit(self, batches: Any) -> Any:
                try:
                    return await store.commit(batches)
                except StoreUnavailable:
                    await asyncio.sleep(0.02)
                    return await store.commit(batches)

        self._store = Stubborn()
        try:
            await original(self, group)
        finally:
            self._store = store

    return instead(committer.Committer, "_commit", commit)


# --- a failover ---------------------------------------------------------------------------------


@mutant(DIES, TRUTH, ONE_STATE, OLDER)
def a_follower_stays_in_its_epoch() -> Patch:
    """That rollups are numbered anew after a failover is not noticed."""

    async def ask(original: Any, self: Any, number: int) -> Any:
        asked_s, feed = await original(self, number)
        return asked_s, replace(feed, epoch=1)

    return instead(follower.Tail, "_ask", ask)
