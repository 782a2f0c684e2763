"""Rule R4: a replica is a consistent prefix. Its contract, on the replica in memory."""

from __future__ import annotations

import math
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import pytest

from groundswell.model import Counter, Document, Key
from groundswell.replicas.memory import COUNTER_BYTES, DOCUMENT_BYTES, MemoryReplica
from groundswell.revision import NOTHING, Revision
from groundswell.store import CountChange, CounterRow, Counters, Documents, Rollup

T = TypeVar("T")

ROOMY = 10**6
LIKE: Key = ("like", 1)


def now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


def replica_at(rollup: int, *, bytes_max: int = ROOMY) -> MemoryReplica:
    """A replica in epoch 1 at this rollup, which ended with the transaction 10 times its number."""
    replica = MemoryReplica("a", bytes_max=bytes_max)
    replica.reset(1, Rollup(rollup, Revision.upto(10 * rollup)))
    return replica


def rollup(number: int, *changes: CountChange, documents: tuple[Document, ...] = ()) -> Rollup:
    return Rollup(number, Revision.upto(10 * number), changes, documents)


def counters_at(rollup: int, *rows: CounterRow) -> Counters:
    return Counters(rows, 1, rollup, Revision.upto(10 * rollup))


def documents_at(rollup: int, *rows: Document | None, xid: int | None = None) -> Documents:
    return Documents(rows, 1, rollup, Revision.upto(10 * rollup if xid is None else xid))


def document(xid: int, version: int, data: str | None = "{}") -> Document:
    return Document("d", "t", version, xid, None if data is None else msgspec.Raw(data.encode()))


def count(replica: MemoryReplica, key: Key = LIKE) -> Counter | None:
    return now(replica.counters([key])).rows[0]


def held(replica: MemoryReplica, id_: str = "d") -> Document | None:
    return now(replica.documents([id_])).rows[0]


# --- applying


def test_it_starts_with_nothing_and_knows_no_age() -> None:
    standing = MemoryReplica("a", bytes_max=ROOMY).standing
    assert (standing.rollup, standing.revision, standing.fresh_at_s) == (0, NOTHING, -math.inf)


def test_rollups_move_it_on_in_order() -> None:
    replica = replica_at(0)
    for number in range(1, 5):
        replica.apply(rollup(number, CountChange("like", 1, number, 10 * number)))
        assert replica.standing.rollup == number
        assert replica.standing.revision == Revision.upto(10 * number)
        assert count(replica) == Counter(number, 10 * number)


def test_a_rollup_is_applied_at_most_once() -> None:
    replica = replica_at(0)
    first, second = rollup(1, CountChange("like", 1, 1, 0)), rollup(2, CountChange("like", 1, 2, 0))
    replica.apply(first)
    replica.apply(second)
    standing = replica.standing
    for again in (second, first):
        replica.apply(again)
        assert replica.standing is standing
        assert count(replica) == Counter(2)


@pytest.mark.parametrize("number", [2, 3, 9])
def test_a_gap_is_an_error_and_changes_nothing(number: int) -> None:
    replica = replica_at(0)
    before = replica.standing
    with pytest.raises(ValueError, match="does not follow"):
        replica.apply(rollup(number, CountChange("like", 1, 1, 0)))
    assert replica.standing is before
    assert count(replica) is None


def test_moving_on_keeps_the_certificate_and_beginning_anew_drops_it() -> None:
    replica = replica_at(0)
    replica.certify(5.0)
    replica.apply(rollup(1))
    assert replica.standing.fresh_at_s == 5.0
    replica.reset(2, rollup(7))
    assert (replica.standing.epoch, replica.standing.rollup) == (2, 7)
    assert replica.standing.fresh_at_s == -math.inf


def test_beginning_anew_forgets_every_row() -> None:
    replica = replica_at(0)
    replica.apply(rollup(1, CountChange("like", 1, 1, 0), documents=(document(9, 1),)))
    replica.reset(1, rollup(7))
    assert (count(replica), held(replica)) == (None, None)


def test_all_rows_of_an_answer_belong_to_its_standing() -> None:
    replica = replica_at(0)
    replica.apply(rollup(1, CountChange("like", 1, 1, 0), CountChange("like", 2, 1, 0)))
    answer = now(replica.counters([LIKE, ("like", 2)]))
    replica.apply(rollup(2, CountChange("like", 1, 2, 0), CountChange("like", 2, 2, 0)))
    assert answer.standing.rollup == 1
    assert answer.rows == [Counter(1), Counter(1)]


# --- filling counters


@pytest.mark.parametrize("changed", [0, 1, 5])
def test_a_row_not_changed_since_is_taken_over(changed: int) -> None:
    replica = replica_at(5)
    now(
        replica.fill_counters(
            [LIKE], counters_at(8, CounterRow(Counter(3, 7), min(changed, 1), changed))
        )
    )
    assert count(replica) == Counter(3, 7)


def test_a_row_changed_since_is_left_to_the_feed() -> None:
    replica = replica_at(5)
    now(replica.fill_counters([LIKE], counters_at(8, CounterRow(Counter(3), 2, 6))))
    assert count(replica) is None


def test_a_row_born_later_was_zero() -> None:
    replica = replica_at(5)
    now(replica.fill_counters([LIKE], counters_at(8, CounterRow(Counter(3, 9), 6, 8))))
    assert count(replica) == Counter(0, 0)


def test_a_row_read_before_where_it_stands_is_not_taken() -> None:
    replica = replica_at(5)
    now(replica.fill_counters([LIKE], counters_at(4, CounterRow(Counter(3), 1, 1))))
    assert count(replica) is None


def test_a_slow_fill_never_overwrites_what_the_feed_brought() -> None:
    replica = replica_at(5)
    slow = counters_at(5, CounterRow(Counter(3), 1, 4))
    late = counters_at(9, CounterRow(Counter(3), 1, 4))
    replica.apply(rollup(6, CountChange("like", 1, 4, 0)))
    now(replica.fill_counters([LIKE], slow))
    now(replica.fill_counters([LIKE], late))
    assert count(replica) == Counter(4)


def test_a_slow_fill_does_not_come_back_after_the_row_was_forgotten() -> None:
    replica = replica_at(5, bytes_max=2 * COUNTER_BYTES)
    slow = counters_at(5, CounterRow(Counter(3), 1, 4))
    replica.apply(rollup(6, CountChange("like", 1, 4, 0), CountChange("like", 2, 1, 0)))
    assert count(replica) is None
    now(replica.fill_counters([LIKE], slow))
    assert count(replica) is None


# --- filling objects


@pytest.mark.parametrize("data", ["{}", None])
def test_an_object_that_it_sees_is_taken_over(data: str | None) -> None:
    replica = replica_at(5)
    now(replica.fill_documents(["d"], documents_at(8, document(50, 3, data))))
    assert held(replica) == document(50, 3, data)


def test_a_version_that_it_does_not_see_is_left_to_the_feed() -> None:
    replica = replica_at(5)
    now(replica.fill_documents(["d"], documents_at(5, document(51, 2), xid=51)))
    assert held(replica) is None


@pytest.mark.parametrize("row", [None, document(51, 1)])
def test_an_object_that_did_not_exist_yet_is_known_to_be_absent(row: Document | None) -> None:
    replica = replica_at(5)
    now(replica.fill_documents(["d"], documents_at(5, row, xid=60)))
    assert held(replica) == Document("d", "", 0, 0, None)


def test_an_object_read_before_where_it_stands_is_not_taken() -> None:
    replica = replica_at(5)
    now(replica.fill_documents(["d"], documents_at(4, document(40, 1))))
    assert held(replica) is None


def test_a_slow_fill_never_overwrites_a_newer_version() -> None:
    replica = replica_at(5)
    slow = documents_at(5, document(50, 1), xid=50)
    replica.apply(rollup(6, documents=(document(60, 2, '{"new":1}'),)))
    now(replica.fill_documents(["d"], slow))
    now(replica.fill_documents(["d"], documents_at(6, document(50, 1))))
    assert held(replica) == document(60, 2, '{"new":1}')


def test_a_deletion_leaves_a_marker_that_a_slow_fill_cannot_undo() -> None:
    replica = replica_at(5)
    slow = documents_at(5, document(50, 1), xid=50)
    replica.apply(rollup(6, documents=(document(60, 2, None),)))
    now(replica.fill_documents(["d"], slow))
    now(replica.fill_documents(["d"], documents_at(6, document(50, 1))))
    assert held(replica) == document(60, 2, None)


# --- memory


def test_it_holds_no_more_than_its_bytes() -> None:
    replica = replica_at(0, bytes_max=2 * 10 * COUNTER_BYTES)
    keys: list[Key] = [("like", target) for target in range(100)]
    replica.apply(rollup(1, *(CountChange("like", target, 1, 0) for target in range(100))))
    rows = now(replica.counters(keys)).rows
    assert 0 < sum(row is not None for row in rows) <= 10
    assert rows[-1] == Counter(1)


def test_forgetting_every_row_gives_its_bytes_back() -> None:
    replica = replica_at(0, bytes_max=2 * 10 * COUNTER_BYTES)
    for epoch in range(1, 5):
        replica.reset(epoch, rollup(0))
        replica.apply(rollup(1, *(CountChange("like", target, 1, 0) for target in range(10))))
        rows = now(replica.counters([("like", target) for target in range(10)])).rows
        assert None not in rows


def test_large_objects_weigh_more() -> None:
    replica = replica_at(0, bytes_max=2 * (3 * DOCUMENT_BYTES + 5000))
    large = msgspec.Raw(b'{"a":"' + b"x" * 4000 + b'"}')
    documents = tuple(Document(str(i), "t", 1, 9, large) for i in range(10))
    replica.apply(rollup(1, documents=documents))
    rows = now(replica.documents([str(i) for i in range(10)])).rows
    assert [row is not None for row in rows] == [False] * 9 + [True]


def test_what_was_used_stays_longer_than_what_was_not() -> None:
    replica = replica_at(0, bytes_max=2 * 20 * COUNTER_BYTES)
    for number in range(1, 200):
        replica.apply(rollup(number, CountChange("like", number, number, 0)))
        if number > 1:
            assert count(replica, ("like", 1)) == Counter(1)


def test_a_row_heavier_than_the_limit_is_held_alone() -> None:
    replica = replica_at(0, bytes_max=2)
    replica.apply(rollup(1, CountChange("like", 1, 1, 0), CountChange("like", 2, 1, 0)))
    assert (count(replica), count(replica, ("like", 2))) == (None, Counter(1))


# --- all of it, at random, against a full model


class World:
    """Every state that ever was: counters by rollup, objects by transaction."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.keys: list[Key] = [("like", target) for target in range(12)]
        self.ids = [f"o{i}" for i in range(8)]
        self.xid = 0
        self.documents: list[dict[str, Document]] = [{}]  # by transaction
        self.moved: list[dict[Key, int]] = []  # of transactions not yet folded
        self.counters: list[dict[Key, CounterRow]] = [{}]  # by rollup
        self.rollups = [Rollup(0, Revision.upto(0))]

    def commit(self) -> None:
        self.xid += 1
        documents = dict(self.documents[-1])
        for id_ in self.draw.sample(self.ids, self.draw.randrange(3)):
            old = documents.get(id_)
            data = None if old and self.draw.random() < 0.4 else msgspec.Raw(b"%d" % self.xid)
            documents[id_] = Document(id_, "t", old.version + 1 if old else 1, self.xid, data)
        self.documents.append(documents)
        keys = self.draw.sample(self.keys, self.draw.randrange(4))
        self.moved.append({key: self.draw.choice([-1, 1, 2]) for key in keys})

    def roll(self) -> None:
        taken = self.draw.randrange(len(self.moved) + 1)
        folded, self.moved = self.moved[:taken], self.moved[taken:]
        before, end = self.rollups[-1], self.xid - len(self.moved)
        number, rows = before.number + 1, dict(self.counters[-1])
        changed: set[Key] = set()
        for key, by in (item for moved in folded for item in moved.items()):
            old = rows.get(key, CounterRow(Counter(0), number, number))
            rows[key] = CounterRow(Counter(old.counter.count + by), old.born, number)
            changed.add(key)
        self.counters.append(rows)
        documents = [d for d in self.documents[end].values() if not before.revision.sees(d.xid)]
        changes = tuple(CountChange(*key, rows[key].counter.count, 0) for key in changed)
        self.rollups.append(Rollup(number, Revision.upto(end), changes, tuple(documents)))

    def read_counters(self, keys: list[Key]) -> Counters:
        absent = CounterRow(Counter(0), 0, 0)
        rows = tuple(self.counters[-1].get(key, absent) for key in keys)
        return Counters(rows, 1, self.rollups[-1].number, self.rollups[-1].revision)

    def read_documents(self, ids: list[str]) -> Documents:
        rows = tuple(self.documents[-1].get(id_) for id_ in ids)
        return Documents(rows, 1, self.rollups[-1].number, Revision.upto(self.xid))


def check(world: World, replica: MemoryReplica, keys: list[Key], ids: list[str]) -> int:
    """Every row held is that of the model where the replica stands; how many there were."""
    at = replica.standing
    assert at.revision == world.rollups[at.rollup].revision
    rows = now(replica.counters(keys)).rows
    for key, row in zip(keys, rows, strict=True):
        true = world.counters[at.rollup].get(key)
        assert row is None or row == (true.counter if true else Counter(0)), key
    documents = now(replica.documents(ids)).rows
    for id_, document in zip(ids, documents, strict=True):
        model = world.documents[at.revision.xmax - 1].get(id_)
        absent = Document(id_, "", 0, 0, None)
        assert document is None or document == (model or absent), id_
    return sum(row is not None for row in [*rows, *documents])


@pytest.mark.parametrize("room", [4, 8, 100])
def test_every_row_held_is_exact_whatever_was_forgotten_and_filled_late(
    seed: int, room: int
) -> None:
    draw = random.Random(seed)
    found = 0
    for _ in range(80):
        world = World(draw)
        replica = MemoryReplica("a", bytes_max=2 * room * COUNTER_BYTES)
        replica.reset(1, world.rollups[0])
        fills: list[tuple[list[Key], Counters] | tuple[list[str], Documents]] = []
        for _ in range(120):
            action = draw.choices(["commit", "roll", "apply", "again", "read", "fill", "reset"],
                                  [6, 4, 4, 1, 5, 5, 0.1])[0]  # fmt: skip
            at = replica.standing.rollup
            if action == "commit":
                world.commit()
            elif action == "roll":
                world.roll()
            elif action == "apply" and at + 1 < len(world.rollups):
                replica.apply(world.rollups[at + 1])
            elif action == "again":
                replica.apply(world.rollups[draw.randrange(at + 1)])
            elif action == "read" and draw.random() < 0.5:
                keys = draw.sample(world.keys, 3)
                fills.append((keys, world.read_counters(keys)))
            elif action == "read":
                ids = draw.sample(world.ids, 3)
                fills.append((ids, world.read_documents(ids)))
            elif action == "fill" and fills:
                asked, read = fills.pop(draw.randrange(len(fills)))
                if isinstance(read, Counters):
                    now(replica.fill_counters([k for k in asked if isinstance(k, tuple)], read))
                else:
                    now(replica.fill_documents([i for i in asked if isinstance(i, str)], read))
            elif action == "reset":
                replica.reset(1, world.rollups[-1])
            some = draw.sample(world.keys, draw.randrange(5)), draw.sample(world.ids, 2)
            found += check(world, replica, *some)
        found += check(world, replica, world.keys, world.ids)
    assert found > 1000
