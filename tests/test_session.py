"""The Python interface, the same in process and over HTTP: one suite, run on all of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import groundswell
import nodes
from groundswell import Add, Delete, Groundswell, Level, Open, Put, Remove, Tally, Transfer
from groundswell.errors import (
    AccountNotFound,
    BadRequest,
    BadToken,
    CeilingExceeded,
    EdgeNotFound,
    InsufficientFunds,
    ObjectNotFound,
    ReplicaLate,
    SeatTaken,
    TooLarge,
    TransferConflict,
    TransferNotFound,
    UnknownKind,
    VersionConflict,
)
from groundswell.model import Edge
from groundswell.revision import Revision, SessionToken
from groundswell.store import Changed, Refused, Stored

pytestmark = pytest.mark.anyio

DELAYS_MS = (0, 150, 600)
REPLICAS = {"replica-a", "replica-b", "replica-c"}
Opened = AbstractAsyncContextManager[Groundswell]

_targets = itertools.count(1_000, 10)


@pytest.fixture
def target() -> int:
    """A target that no other test touches: they share a node."""
    return next(_targets)


@pytest.fixture(scope="module")
def near_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    with nodes.running(tmp_path_factory.mktemp("near")) as node:
        yield node


@pytest.fixture(scope="module")
def far_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    delays = ",".join(map(str, DELAYS_MS))
    flags = ("--replicas", "3", "--replica-delay-ms", delays)
    with nodes.running(tmp_path_factory.mktemp("far"), *flags) as node:
        yield node


@pytest.fixture(params=["sqlite", "memory", "http"])
def open_near(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Opened]:
    """A system with one replica."""
    return _opener(request, tmp_path, "near_node")


@pytest.fixture(params=["sqlite", "memory", "http"])
def open_far(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Opened]:
    """A system with three replicas, held back by 0, 150 and 600 ms."""
    return _opener(request, tmp_path, "far_node", replicas=3, replica_delay_ms=list(DELAYS_MS))


def _opener(
    request: pytest.FixtureRequest, folder: Path, node: str, **settings: Any
) -> Callable[[], Opened]:
    match request.param:
        case "http":
            url = request.getfixturevalue(node).url
            return lambda: groundswell.connect(url)
        case "memory":
            return lambda: groundswell.open("memory://", **settings)
        case _:
            return lambda: groundswell.open(f"sqlite:///{folder}/groundswell.db", **settings)


@pytest.fixture
async def gs(open_near: Callable[[], Opened]) -> AsyncIterator[Groundswell]:
    async with open_near() as system:
        yield system


@pytest.fixture
async def far(open_far: Callable[[], Opened]) -> AsyncIterator[Groundswell]:
    async with open_far() as system:
        await system.session().count("like", 1, level="linearizable")
        yield system


# --- verbs ----------------------------------------------------------------------------------------


async def test_an_edge_exists_once(gs: Groundswell, target: int) -> None:
    me = gs.session()
    assert await me.add("like", target=target, source=7)
    assert not await me.add("like", target=target, source=7)
    assert (await me.count("like", target)).value == 1
    assert await me.remove("like", target=target, source=7)
    assert not await me.remove("like", target=target, source=7)
    assert (await me.count("like", target)).value == 0


async def test_an_edge_is_read_with_what_it_carries(gs: Groundswell, target: int) -> None:
    me = gs.session()
    await me.add("review", target, 7, value=4, data={"text": "good", "tags": ["ü"]})
    edge = await me.edge("review", target, 7)
    assert edge.data is not None
    assert msgspec.json.decode(edge.data) == {"text": "good", "tags": ["ü"]}
    assert (edge.kind, edge.target, edge.source, edge.value) == ("review", target, 7, 4)
    [listed] = (await me.edges("review", target=target)).edges
    assert listed == edge
    assert isinstance(listed, Edge)


async def test_other_data_alone_is_a_change(gs: Groundswell, target: int) -> None:
    me = gs.session()
    assert await me.add("like", target, 7, data={"a": 1})
    assert not await me.add("like", target, 7, data={"a": 1})
    assert await me.add("like", target, 7, data={"a": 2})
    assert await me.add("like", target, 7)
    assert (await me.edge("like", target, 7)).data is None


async def test_an_edge_that_is_not_there_is_not_found(gs: Groundswell, target: int) -> None:
    me = gs.session()
    with pytest.raises(EdgeNotFound):
        await me.edge("like", target, 7)
    assert me.token is not None  # it has seen that there is none


async def test_a_sum_follows_the_values(gs: Groundswell, target: int) -> None:
    me = gs.session()
    await me.add("review", target, 1, value=5)
    await me.add("review", target, 2, value=2)
    await me.add("review", target, 2, value=4)
    await me.remove("review", target, 1)
    for level in (Level.READ_YOUR_WRITES, Level.CAUSAL, Level.LINEARIZABLE):
        count = await me.count("review", target, level=level)
        assert (count.value, count.sum, count.level) == (1, 4, level)
    assert (await me.count("like", target)).sum is None


async def test_an_exclusive_target_is_taken_once(gs: Groundswell, target: int) -> None:
    seat, me, other = f"seat-{target}", gs.session(), gs.session()
    assert await me.add("seat", seat, 1)
    with pytest.raises(SeatTaken):
        await other.add("seat", seat, 2)
    assert not await me.add("seat", seat, 1)
    assert await me.remove("seat", seat, 1)
    assert await other.add("seat", seat, 2)


async def test_who_was_refused_a_seat_sees_that_it_is_taken(gs: Groundswell, target: int) -> None:
    seat, other = f"seat-{target}", gs.session()
    await gs.session().add("seat", seat, 1)
    with pytest.raises(SeatTaken):
        await other.add("seat", seat, 2)
    assert (await other.count("seat", seat)).value == 1


async def test_a_tally_with_an_id_counts_once(gs: Groundswell, target: int) -> None:
    me = gs.session()
    assert await me.tally("view", target)
    assert await me.tally("view", target, by=5, id="x")
    assert not await me.tally("view", target, by=5, id="x")
    assert (await me.count("view", target)).value == 6


async def test_an_object_is_put_read_and_deleted(gs: Groundswell, target: int) -> None:
    id_, me = f"parcel/{target}", gs.session()
    with pytest.raises(ObjectNotFound):
        await me.get(id_)
    assert await me.put(id_, "parcel", {"at": "depot"}) == 1
    assert await me.put(id_, "parcel", {"at": "door"}, if_version=1) == 2
    found = await me.get(id_)
    assert (found.id, found.type, found.version, found.data) == (
        *(id_, "parcel", 2),
        {"at": "door"},
    )
    assert await me.delete(id_, if_version=2)
    assert not await me.delete(id_)
    with pytest.raises(ObjectNotFound):
        await me.get(id_)
    assert await me.put(id_, "parcel", {}, if_version=0) == 4  # versions are not used twice


async def test_a_conflict_says_where_the_object_stands(gs: Groundswell, target: int) -> None:
    id_, me = f"parcel/{target}", gs.session()
    await me.put(id_, "parcel", {"a": 1})
    for wrong in (0, 2):
        with pytest.raises(VersionConflict) as caught:
            await me.put(id_, "parcel", {"a": 2}, if_version=wrong)
        assert caught.value.version == 1
    with pytest.raises(VersionConflict) as caught:
        await me.delete("not there", if_version=1)
    assert caught.value.version == 0
    assert (await me.get(id_)).data == {"a": 1}


async def test_a_list_is_newest_first_and_pages_both_ways(gs: Groundswell, target: int) -> None:
    me = gs.session()
    for source in range(5):
        await me.add("like", target, source)

    def sources(page: groundswell.EdgePage) -> list[Any]:
        return [edge.source for edge in page.edges]

    first = await me.edges("like", target=target, limit=2)
    second = await me.edges("like", target=target, limit=2, cursor=first.next)
    third = await me.edges("like", target=target, limit=2, cursor=second.next)
    assert (sources(first), sources(second), sources(third)) == ([4, 3], [2, 1], [0])
    assert third.next is None
    assert sources(await me.edges("like", target=target, limit=2, cursor=third.prev)) == [2, 1]
    await me.add("like", target, 9)
    assert sources(await me.edges("like", target=target, cursor=first.prev)) == [9]


async def test_a_list_is_cut_by_time(gs: Groundswell, target: int) -> None:
    me = gs.session()
    await me.add("like", target, 1)
    at = (await me.edge("like", target, 1)).created_ms
    assert len((await me.edges("like", target=target, since=at, until=at + 1)).edges) == 1
    assert (await me.edges("like", target=target, until=at)).edges == []


async def test_the_inverse_list_is_what_a_source_did(gs: Groundswell, target: int) -> None:
    me, fan = gs.session(), target
    for to in (1, 2, 3):
        await me.add("follow", to, fan)
    await me.remove("follow", 2, fan)
    page = await me.edges("follow", source=fan, limit=1)
    assert [edge.target for edge in page.edges] == [3]
    page = await me.edges("follow", source=fan, cursor=page.next)
    assert [edge.target for edge in page.edges] == [1]


async def test_many_writes_have_an_outcome_each(gs: Groundswell, target: int) -> None:
    me, id_ = gs.session(), f"o-{target}"
    outcomes = await me.write(
        [
            Add("like", target, 1),
            Add("like", target, 1),
            Tally("view", target),
            Put(id_, "t", msgspec.Raw(b"{}")),
            Put(id_, "t", msgspec.Raw(b"{}"), if_version=7),
            Delete(id_),
            Add("nope", target, 1),
            Remove("like", target, 1),
        ]
    )
    yes, no = Changed(True), Changed(False)
    assert outcomes[:4] == [yes, no, yes, Stored(1)]
    assert isinstance(outcomes[4], Refused)
    assert (outcomes[4].code, outcomes[4].version) == ("version-conflict", 1)
    assert outcomes[5] == yes
    assert isinstance(outcomes[6], Refused)
    assert outcomes[6].code == "unknown-kind"
    assert outcomes[7] == yes


async def test_atomic_writes_are_all_or_nothing(gs: Groundswell, target: int) -> None:
    me, id_ = gs.session(), f"o-{target}"
    put = Put(id_, "t", msgspec.Raw(b"{}"), if_version=0)
    assert await me.write([Add("like", target, 1), put], atomic=True) == [Changed(True), Stored(1)]
    with pytest.raises(VersionConflict) as caught:
        await me.write([Add("like", target, 2), put], atomic=True)
    assert (caught.value.version, caught.value.index) == (1, 1)
    assert caught.value.token == me.token
    with pytest.raises(UnknownKind) as unknown:
        await me.write([Add("like", target, 3), Add("nope", target, 1)], atomic=True)
    assert unknown.value.index == 1
    assert (await me.count("like", target, level="linearizable")).value == 1


async def test_what_is_wrong_raises_the_same_error_everywhere(gs: Groundswell) -> None:
    me = gs.session()
    with pytest.raises(UnknownKind):
        await me.count("nope", 1)
    with pytest.raises(UnknownKind):
        await me.add("nope", 1, 1)
    for call in (
        me.add("like", "one", 1),
        me.add("like", 1, 1, value=3),
        me.add("review", 1, 1),
        me.count("like", "one"),
        me.count("like", 1, level="strong"),
        me.count("like", 1, wait_ms=-1),
        me.count("like", 1, max_age_ms=-1),
        me.counts([]),
        me.edges("like", target=1, limit=0),
        me.edges("like", target=1, cursor="?"),
        me.edges("reply", source=1),
        me.edges("like"),
        me.edges("like", target=1, source=1),
        me.count("like", 1, fallback="replica"),  # type: ignore[arg-type]
        me.count("seat", "\ud800"),
        me.add("seat", "\ud800", 1),
        me.add("like", 2**70, 1),
        me.add("seat", "s", 1, expires_in_s=math.inf),
        me.transfer("t", debit="a", credit="b", amount=1, pending=True, expires_in_s=math.nan),
        me.tally("like", 1),
        me.tally("view", 1, by=0),
    ):
        with pytest.raises(BadRequest) as caught:
            await call
        assert caught.value.code == "bad-request"
    with pytest.raises(TypeError, match="levels"):
        await me.count("like", 1, levels="causal")  # type: ignore[call-arg]
    with pytest.raises(TooLarge):
        await me.put("o", "t", {"a": "x" * 70_000})
    with pytest.raises(TooLarge):
        await me.get("x" * 129)
    with pytest.raises(TooLarge):
        await me.counts([("like", n) for n in range(1_001)])
    with pytest.raises(TooLarge):
        await me.write([Add("like", 1, n) for n in range(10_001)])


async def test_a_bad_token_is_refused(gs: Groundswell) -> None:
    for token in ("garbage", SessionToken(store="0" * 16, epoch=1).encode()):
        with pytest.raises(BadToken):
            await gs.session(token).count("like", 1)
    with pytest.raises(BadToken):
        gs.session().observe("garbage")


@pytest.mark.parametrize("id_", ["a/b", "100%", "..", "ü €", "a?b=c&d#e"])
async def test_an_id_is_any_printable_text(gs: Groundswell, target: int, id_: str) -> None:
    me, seat = gs.session(), f"{target}{id_}"
    assert await me.add("seat", seat, 1)
    assert (await me.count("seat", seat)).value == 1
    assert (await me.edge("seat", seat, 1)).target == seat
    assert await me.put(id_, "t", {"target": target}) > 0
    assert (await me.get(id_)).id == id_


async def test_status_says_where_the_node_stands(gs: Groundswell, target: int) -> None:
    await gs.session().add("like", target, 1)
    for _ in range(500):
        status = await gs.status()
        if status.rollup and not status.backlog:
            break
        await asyncio.sleep(0.01)
    assert (status.epoch, status.backlog) == (1, 0)
    assert [replica.name for replica in status.replicas] == ["replica-a"]
    assert status.rollup >= 1
    assert {kind["name"] for kind in status.kinds} >= {"follow", "like", "view", "seat"}


async def test_ratings_follow_every_change_of_a_value(gs: Groundswell, target: int) -> None:
    me = gs.session()
    empty = await me.rating("review", target)
    assert (empty.count, empty.average) == (0, None)
    assert empty.histogram == {1: 0, 2: 0, 3: 0, 4: 0, 5: 0}
    for source, value in enumerate([5, 5, 4, 1]):
        await me.add("review", target, source, value=value)
    for level in (None, "linearizable", "causal"):
        found = await me.rating("review", target, level=level)
        assert (found.count, found.sum, found.average) == (4, 15, 3.75)
        assert found.histogram == {1: 1, 2: 0, 3: 0, 4: 1, 5: 2}
    await me.add("review", target, 3, value=2)
    await me.remove("review", target, 0)
    found = await me.rating("review", target)
    assert (found.count, found.sum) == (3, 11)
    assert found.histogram == {1: 0, 2: 1, 3: 0, 4: 1, 5: 1}
    with pytest.raises(BadRequest, match="no value"):
        await me.rating("like", target)


async def test_accounts_have_the_same_verbs_everywhere(gs: Groundswell, target: int) -> None:
    me = gs.session()
    mint, till = f"mint-{target}", f"till-{target}"
    assert await me.open_account(mint, floor=None)
    assert await me.open_account(till, ceiling=10)
    assert not await me.open_account(till, ceiling=10)
    moved = await me.transfer(f"t-{target}", debit=mint, credit=till, amount=4)
    assert (moved.state, moved.debit_balance, moved.credit_balance) == ("posted", -4, 4)
    again = await me.transfer(f"t-{target}", debit=mint, credit=till, amount=4)
    assert not again.changed
    with pytest.raises(TransferConflict):
        await me.transfer(f"t-{target}", debit=mint, credit=till, amount=5)
    with pytest.raises(CeilingExceeded):
        await me.transfer(f"u-{target}", debit=mint, credit=till, amount=7)
    with pytest.raises(AccountNotFound):
        await me.transfer(f"u-{target}", debit=mint, credit="nobody", amount=7)
    held = await me.transfer(
        f"h-{target}", debit=till, credit=mint, amount=3, pending=True, expires_in_s=60
    )
    assert held.state == "pending"
    assert held.expires_ms is not None
    with pytest.raises(InsufficientFunds):
        await me.transfer(f"u-{target}", debit=till, credit=mint, amount=2)
    for level in (None, "causal"):
        found = await me.account(till, level=level)
        assert (found.balance, found.held, found.available) == (4, 3, 1)
    assert (await me.post(f"h-{target}", 1)).debit_balance == 3
    with pytest.raises(TransferConflict):
        await me.void(f"h-{target}")
    with pytest.raises(TransferNotFound):
        await me.post("never")
    with pytest.raises(AccountNotFound):
        await me.account("nobody")
    assert (await me.find_transfer(f"h-{target}")).posted == 1
    page = await me.transfers(till, limit=2)
    assert {transfer.id for transfer in page.transfers} == {f"h-{target}", f"t-{target}"}
    assert page.next is None
    first = await me.transfers(till, limit=1)
    rest = await me.transfers(till, limit=1, cursor=first.next)
    assert first.transfers + rest.transfers == page.transfers
    outcomes = await me.write(
        [Transfer(f"v-{target}", till, mint, 1), Add("seat", f"s{target}", 1), Open(mint, None)],
        atomic=True,
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["Moved", "Changed", "Opened"]
    with pytest.raises(AccountNotFound):
        await me.write([Add("like", target, 1), Transfer("w", "nobody", mint, 1)], atomic=True)
    assert (await me.count("like", target, level="linearizable")).value == 0


# --- consistency ----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["causal", "read_your_writes"])
async def test_a_session_sees_its_own_writes_at_once(
    far: Groundswell, target: int, level: str
) -> None:
    me = far.session()
    pending, served_by = 0, set[str]()
    for source in range(12):
        await me.add("like", target, source)
        if source % 4 == 3:
            await me.remove("like", target, source - 1)
        count = await me.count("like", target, level=level)
        assert count.value == source + 1 - (source + 1) // 4
        pending, served_by = max(pending, count.pending), served_by | {count.served_by}
    assert pending > 0
    assert served_by & REPLICAS


async def test_own_values_and_tallies_are_seen_at_once(far: Groundswell, target: int) -> None:
    me = far.session()
    for step in range(1, 6):
        await me.add("review", target, 1, value=step)
        await me.tally("view", target, by=10)
        count = await me.count("review", target)
        assert (count.value, count.sum) == (1, step)
        assert (await me.count("view", target)).value == 10 * step


async def test_an_own_object_is_seen_at_once(far: Groundswell, target: int) -> None:
    me, id_ = far.session(), f"parcel/{target}"
    for version in range(1, 6):
        assert await me.put(id_, "parcel", {"step": version}) == version
        for level in ("causal", "read_your_writes"):
            assert (await me.get(id_, level=level)).version == version
    await me.delete(id_)
    with pytest.raises(ObjectNotFound):
        await me.get(id_)


async def test_a_token_that_is_handed_over_brings_what_its_session_did(
    far: Groundswell, target: int
) -> None:
    asking, answering = far.session(), far.session()
    await asking.add("like", target, 1)
    await asking.put(f"question/{target}", "question", {"text": "why?"})
    answering.observe(asking.token)
    assert (await answering.get(f"question/{target}")).version == 1
    assert (await answering.count("like", target)).value == 1
    await answering.put(f"answer/{target}", "answer", {"text": "so"})
    third = far.session()
    third.observe(answering.token)
    assert (await third.get(f"question/{target}")).version == 1
    third.observe(None)  # a call that brought no token


async def test_who_has_read_something_can_pass_it_on(far: Groundswell, target: int) -> None:
    await far.session().put(f"question/{target}", "question", {})
    reader, friend = far.session(), far.session()
    await reader.get(f"question/{target}", level="linearizable")
    friend.observe(reader.token)
    assert (await friend.get(f"question/{target}")).version == 1


async def test_who_has_seen_a_list_sees_its_count(far: Groundswell, target: int) -> None:
    for source in range(3):
        await far.session().add("like", target, source)
        me = far.session()
        seen = len((await me.edges("like", target=target)).edges)
        assert (await me.count("like", target, level="monotonic")).value == seen
        assert (await me.edge("like", target, source)).source == source


async def test_eventual_goes_backwards_and_monotonic_never_does(
    far: Groundswell, target: int
) -> None:
    seen: dict[str, list[list[int]]] = {"eventual": [], "monotonic": [], "causal": []}
    done = asyncio.Event()

    async def reading(level: str, pause_s: float) -> None:
        me, values = far.session(), list[int]()
        seen[level].append(values)
        while not done.is_set():
            values.append((await me.count("like", target, level=level)).value)
            await asyncio.sleep(pause_s)  # of its own: replicas take turns, readers must not

    async def writing() -> None:
        for source in itertools.count():
            await far.session().add("like", target, source)
            await asyncio.sleep(0.005)
            if source >= 120 and all(len(values) > 20 for level in seen for values in seen[level]):
                break  # a busy machine gives some of them little time
        done.set()

    await asyncio.gather(
        writing(), *(reading(level, n / 1000) for level in seen for n in (2, 3, 5))
    )

    def backwards(level: str) -> int:
        return sum(b < a for values in seen[level] for a, b in itertools.pairwise(values))

    assert backwards("monotonic") == 0
    assert backwards("causal") == 0
    assert backwards("eventual") > 0, "the replicas are too alike for this test to mean anything"


async def test_linearizable_sees_everything_acknowledged(far: Groundswell, target: int) -> None:
    acknowledged = 0

    async def writing(first: int) -> None:
        nonlocal acknowledged
        for source in range(first, first + 25):
            await far.session().add("like", target, source)
            acknowledged += 1

    async def reading() -> None:
        while acknowledged < 100:
            before = acknowledged
            count = await far.session().count("like", target, level="linearizable")
            assert count.value >= before
            assert (count.served_by, count.age_ms, count.pending) == ("primary", 0.0, 0)

    await asyncio.gather(reading(), reading(), *(writing(n * 25) for n in range(4)))
    assert (await far.session().count("like", target, level="linearizable")).value == 100


async def test_an_old_replica_does_not_serve_a_read_with_a_max_age(
    far: Groundswell, target: int
) -> None:
    await far.session().add("like", target, 1)
    await asyncio.sleep(0.65)  # at the start every replica is fresh
    for _ in range(12):
        count = await far.session().count("like", target, level="eventual", max_age_ms=140)
        assert count.served_by in ("replica-a", "primary")
        assert count.age_ms is not None
        assert count.age_ms <= 200  # the answer took a moment, on a busy machine a longer one
    counts = [  # on a busy machine some wait
        await far.session().count(
            "like", target, level="eventual", max_age_ms=400, wait_ms=10_000, fallback="none"
        )
        for _ in range(12)
    ]
    assert {count.served_by for count in counts} <= {"replica-a", "replica-b"}
    assert {count.value for count in counts} == {1}


async def test_a_level_is_refused_rather_than_faked(far: Groundswell, target: int) -> None:
    writer = far.session()
    await writer.put(f"late/{target}", "t", {})
    with pytest.raises(ReplicaLate):
        await far.session().count("like", target, max_age_ms=0, wait_ms=0, fallback="none")
    with contextlib.suppress(ReplicaLate):  # the fastest replica may have it
        await writer.get(f"late/{target}", wait_ms=0, fallback="none")
    later = await writer.get(f"late/{target}", wait_ms=5_000, fallback="none")
    assert later.served_by in REPLICAS
    assert later.version == 1


async def test_a_refused_read_leaves_the_session_as_it_is(far: Groundswell, target: int) -> None:
    me = far.session()
    await me.add("like", target, 1)
    before = me.token
    with pytest.raises(ReplicaLate):
        await me.count("like", target, max_age_ms=0, wait_ms=0, fallback="none")
    assert me.token == before
    assert (await me.count("like", target)).value == 1


async def test_a_page_is_the_same_everywhere(gs: Groundswell, target: int) -> None:
    me = gs.session()
    await me.add("review", target, 1, value=2, data={"text": "so-so"})
    await me.add("review", target, 2, value=5)
    await me.tally("view", target)
    keys = [("review", target), ("view", target), ("like", target)]
    review, view, like = await me.page(keys, viewer=2)
    assert (review.kind, review.target, review.value, review.sum) == ("review", target, 2, 7)
    assert [(edge.target, edge.source, edge.value) for edge in review.newest] == [
        (target, 2, 5),
        (target, 1, 2),
    ]
    assert review.newest[1] == await me.edge("review", target, 1)
    assert (review.viewer, view.viewer, like.viewer) == (True, None, False)
    assert (view.value, view.sum, view.newest) == (1, None, [])
    assert (review.level, review.served_by) == (like.level, like.served_by)
    assert review.level is Level.CAUSAL
    [alone] = await me.page(keys[:1], newest=0, level="linearizable")
    assert (alone.newest, alone.viewer, alone.served_by, alone.age_ms) == ([], None, "primary", 0.0)
    with pytest.raises(BadRequest, match="No keys"):
        await me.page([])
    with pytest.raises(TooLarge):
        await me.page([("like", n) for n in range(201)])
    with pytest.raises(BadRequest, match="0 to 50"):
        await me.page(keys, newest=51)
    with pytest.raises(BadRequest, match="source of kind review"):
        await me.page(keys, viewer="me")
    with pytest.raises(UnknownKind):
        await me.page([("nope", 1)])


async def test_pages_are_of_one_revision(far: Groundswell, target: int) -> None:
    both, done = [("like", target), ("follow", target)], asyncio.Event()

    async def writing() -> None:
        for source in range(40):
            pair = [Add("like", target, source), Add("follow", target, source)]
            if source % 2:
                pair.reverse()
            await far.session().write(pair, atomic=True)
            await asyncio.sleep(0.005)
        done.set()

    async def reading(level: str) -> None:
        while not done.is_set():
            likes, follows = await far.session().page(both, viewer=5, newest=50, level=level)
            assert likes.value == follows.value == len(likes.newest) == len(follows.newest)
            assert [e.source for e in likes.newest] == [e.source for e in follows.newest]
            assert likes.viewer == follows.viewer == any(e.source == 5 for e in likes.newest)
            await asyncio.sleep(0.001)

    await asyncio.gather(writing(), *(reading(level) for level in Level))


async def test_counts_are_of_one_revision(far: Groundswell, target: int) -> None:
    both, done = [("like", target), ("follow", target)], asyncio.Event()

    async def writing() -> None:
        for source in range(60):
            pair = [Add("like", target, source), Add("follow", target, source)]
            await far.session().write(pair, atomic=True)
        done.set()

    async def reading(level: str) -> None:
        while not done.is_set():
            likes, follows = await far.session().counts(both, level=level)
            assert likes.value == follows.value
            assert (likes.served_by, likes.age_ms) == (follows.served_by, follows.age_ms)
            await asyncio.sleep(0.001)  # a read from memory never lets the others run

    await asyncio.gather(writing(), *(reading(level) for level in Level))
    me = far.session()
    await me.add("like", target, 999)
    likes, follows = await me.counts(both, level="linearizable")
    assert (likes.value, follows.value) == (61, 60)


async def test_an_answer_is_as_fresh_as_it_says(far: Groundswell, target: int) -> None:
    clock = asyncio.get_running_loop().time
    acknowledged: list[float] = []  # when the n-th like was
    served_by: set[str] = set()
    for source in range(80):
        await far.session().add("like", target, source)
        acknowledged.append(clock())
        asked = clock()
        count = await far.session().count("like", target, level="eventual")
        served_by.add(count.served_by)
        if count.age_ms is not None:
            shown = sum(at < asked - count.age_ms / 1000 for at in acknowledged)
            assert count.value >= shown, (count, source)
        await asyncio.sleep(0.005)
    assert served_by == REPLICAS


async def test_ages_tell_the_replicas_apart(far: Groundswell, target: int) -> None:
    await far.session().add("like", target, 1)
    await asyncio.sleep(0.8)  # at the start every replica is fresh
    async with asyncio.timeout(60):
        while True:  # on a busy machine all grow older, until it has a moment's rest
            ages: dict[str, list[float]] = {name: [] for name in REPLICAS}
            for _ in range(30):
                count = await far.session().count("like", target, level="eventual")
                assert count.age_ms is not None
                ages[count.served_by].append(count.age_ms)
            assert min(ages["replica-b"]) >= 150
            assert min(ages["replica-c"]) >= 600
            if max(ages["replica-a"]) < 150 and max(ages["replica-b"]) < 600:
                break
            await asyncio.sleep(0.1)


async def test_an_eventual_read_teaches_a_session_nothing(far: Groundswell, target: int) -> None:
    me = far.session()
    await me.count("like", target, level="eventual")
    assert me.token is None
    await me.count("like", target)
    assert me.token is not None
    assert SessionToken.decode(me.token).read != Revision(0, 0)


async def test_a_session_goes_on_from_its_token(far: Groundswell, target: int) -> None:
    me = far.session()
    await me.add("like", target, 1)
    assert (await far.session(me.token).count("like", target)).value == 1


async def test_a_long_session_keeps_a_small_token(far: Groundswell, target: int) -> None:
    me = far.session()
    for source in range(60):
        await me.add("like", target + source % 3, source)
    assert me.token is not None
    assert len(me.token) <= 1_024
    counts = await me.counts([("like", target + n) for n in range(3)])
    assert sum(count.value for count in counts) == 60


# --- what goes on ---------------------------------------------------------------------------------


async def test_a_stream_tells_all_counts_and_then_what_changes(
    gs: Groundswell, target: int
) -> None:
    me = gs.session()
    await me.add("review", target, 7, value=4)
    await me.count("review", target, level="linearizable")
    keys = [("like", target), ("review", target)]
    async with asyncio.timeout(10), contextlib.aclosing(me.stream(keys)) as told:
        first = {(count.kind, count.target): count for count in await anext(told)}
        assert list(first) == keys
        assert first["like", target].value == 0
        review = first["review", target]
        while (review.value, review.sum) != (1, 4):  # the replica may not have come so far
            review = (await anext(told))[0]
        assert (review.level, review.pending, review.served_by) == ("eventual", 0, "replica-a")
        assert review.age_ms is None or review.age_ms >= 0
        for source in range(1, 4):
            await me.add("like", target, source)
            [count] = await anext(told)
            assert (count.kind, count.target, count.value, count.sum) == (
                "like",
                target,
                source,
                None,
            )


async def test_many_streams_each_tell_all(gs: Groundswell, target: int) -> None:
    async def last(number: int) -> int:
        async with contextlib.aclosing(gs.stream([("like", target)])) as told:
            async for [count] in told:
                if count.value == 5:
                    return number
        raise AssertionError("it ended")

    async with asyncio.timeout(10):
        streams = [asyncio.create_task(last(number)) for number in range(20)]
        for source in range(5):
            await gs.session().add("like", target, source)
        assert await asyncio.gather(*streams) == list(range(20))


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ([], BadRequest),
        ([("nope", 1)], UnknownKind),
        ([("like", "x")], BadRequest),
        ([("like", number) for number in range(101)], TooLarge),
    ],
)
async def test_a_stream_of_keys_that_do_not_fit_is_refused(
    gs: Groundswell, keys: list[Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await anext(gs.stream(keys))


async def test_what_grew_is_told_the_same_everywhere(gs: Groundswell, target: int) -> None:
    me = gs.session()
    await me.write([Add("reply", target, source) for source in range(3)])
    async with asyncio.timeout(10):
        while not (found := await me.trending("reply", window_s=60, limit=100)).trends:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert groundswell.Trend(target, 3, 3) in found.trends
    assert (found.kind, found.window_s, found.level) == ("reply", 60, Level.EVENTUAL)
    assert found.served_by in REPLICAS
    assert found.since_s > 0
    assert (await gs.trending("reply", window_s=60, limit=100)).trends == found.trends


@pytest.mark.parametrize(
    ("kind", "window_s", "limit", "error"),
    [
        ("nope", 300, 10, UnknownKind),
        ("like", 0, 10, BadRequest),
        ("like", 3601, 10, BadRequest),
        ("like", 300, 0, BadRequest),
        ("like", 300, 101, BadRequest),
    ],
)
async def test_trending_that_does_not_fit_is_refused(
    gs: Groundswell, kind: str, window_s: int, limit: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await gs.trending(kind, window_s=window_s, limit=limit)


async def test_a_stream_in_process_ends_with_its_node(tmp_path: Path) -> None:
    async with groundswell.open(f"sqlite:///{tmp_path}/groundswell.db") as system:
        told = system.stream([("like", 1)])
        assert len(await anext(told)) == 1
    with pytest.raises(StopAsyncIteration):
        await anext(told)
