"""Objects: versions, conditions, deletion, and `documents`."""

from __future__ import annotations

from groundswell.model import Delete, Document, Put
from groundswell.store import Refused, Store, Stored
from groundswell.testing.base import (
    DONE,
    NOTHING_DONE,
    Suite,
    codes,
    commit,
    drain,
    follow,
    json,
    outcome,
)


def put(n: int, if_version: int | None = None, id_: str = "x") -> Put:
    """The n-th contents of an object."""
    return Put(id_, "parcel", json(n=n), if_version)


async def stored(store: Store, id_: str = "x") -> Document | None:
    """An object as it is stored."""
    return (await store.documents([id_])).rows[0]


def conflict(outcome: object, version: int) -> bool:
    """Whether it is a version-conflict that says where the object stands."""
    return (
        isinstance(outcome, Refused)
        and outcome.code == "version-conflict"
        and outcome.version == version
    )


class ObjectSuite(Suite):
    """An object's version counts its changes and never goes back."""

    async def test_a_put_stores_the_object_whole(self, store: Store) -> None:
        put_ = await commit(store, put(1))
        assert put_.outcomes == (Stored(1),)
        assert put_.effects == ()
        assert put_.xid is not None
        assert await stored(store) == Document("x", "parcel", 1, put_.xid, json(n=1))

    async def test_each_put_is_a_new_version(self, store: Store) -> None:
        assert [await outcome(store, put(n)) for n in (1, 2, 1)] == [
            Stored(1),
            Stored(2),
            Stored(3),
        ]

    async def test_an_identical_put_does_nothing(self, store: Store) -> None:
        await commit(store, put(1))
        await drain(store)
        again = await commit(store, put(1), put(1, if_version=1))
        assert again.outcomes == (Stored(1, changed=False), Stored(1, changed=False))
        assert again.xid is None
        assert await store.rollup(10) is None

    async def test_another_type_alone_is_a_change(self, store: Store) -> None:
        await commit(store, put(1))
        assert await outcome(store, Put("x", "letter", json(n=1))) == Stored(2)
        document = await stored(store)
        assert document is not None
        assert document.type == "letter"

    async def test_if_version_0_creates_and_never_replaces(self, store: Store) -> None:
        assert await outcome(store, put(1, if_version=0)) == Stored(1)
        assert conflict(await outcome(store, put(2, if_version=0)), 1)
        document = await stored(store)
        assert document is not None
        assert document.data == json(n=1)

    async def test_if_version_replaces_that_version_alone(self, store: Store) -> None:
        assert conflict(await outcome(store, put(1, if_version=1)), 0)
        await commit(store, put(1))
        assert await outcome(store, put(2, if_version=1)) == Stored(2)
        assert conflict(await outcome(store, put(3, if_version=1)), 2)
        assert conflict(await outcome(store, put(3, if_version=3)), 2)

    async def test_a_stale_if_version_is_refused_even_for_the_same_contents(
        self, store: Store
    ) -> None:
        await commit(store, put(1))
        await commit(store, put(2))
        assert conflict(await outcome(store, put(2, if_version=1)), 2)

    async def test_a_refused_put_changes_nothing(self, store: Store) -> None:
        await commit(store, put(1))
        await drain(store)
        refused = await commit(store, put(2, if_version=7))
        assert refused.xid is None
        assert await store.rollup(10) is None

    async def test_a_deletion_leaves_a_mark_with_the_next_version(self, store: Store) -> None:
        await commit(store, put(1))
        deleted = await commit(store, Delete("x"))
        assert deleted.outcomes == (DONE,)
        assert deleted.xid is not None
        assert await stored(store) == Document("x", "parcel", 2, deleted.xid, None)

    async def test_deleting_what_is_not_there_changes_nothing(self, store: Store) -> None:
        assert await outcome(store, Delete("x")) == NOTHING_DONE
        assert await stored(store) is None
        await commit(store, put(1))
        await commit(store, Delete("x"))
        assert await outcome(store, Delete("x")) == NOTHING_DONE
        assert await outcome(store, Delete("x", if_version=0)) == NOTHING_DONE

    async def test_a_deletion_may_be_for_one_version_alone(self, store: Store) -> None:
        assert conflict(await outcome(store, Delete("x", if_version=1)), 0)
        await commit(store, put(1))
        await commit(store, put(2))
        assert conflict(await outcome(store, Delete("x", if_version=1)), 2)
        assert conflict(await outcome(store, Delete("x", if_version=0)), 2)
        assert await outcome(store, Delete("x", if_version=2)) == DONE

    async def test_a_deleted_object_stands_at_version_0_and_goes_on_counting(
        self, store: Store
    ) -> None:
        await commit(store, put(1))
        await commit(store, Delete("x"))
        assert conflict(await outcome(store, put(2, if_version=2)), 0)
        assert conflict(await outcome(store, put(2, if_version=1)), 0)
        assert await outcome(store, put(1, if_version=0)) == Stored(3)

    async def test_several_versions_within_one_commit(self, store: Store) -> None:
        done = await commit(
            store,
            put(1, if_version=0),
            put(2, if_version=1),
            put(3, if_version=1),
            Delete("x"),
            put(4, if_version=0),
        )
        assert codes(done) == [True, True, "version-conflict", True, True]
        assert await store.backlog() == 1
        document = await stored(store)
        assert document is not None
        assert (document.version, document.data) == (4, json(n=4))

    async def test_created_and_deleted_within_one_commit(self, store: Store) -> None:
        await commit(store, put(1), Delete("x"))
        document = await stored(store)
        assert document is not None
        assert (document.version, document.data) == (2, None)
        await drain(store)
        [rollup] = await follow(store)
        assert rollup.documents == (document,)

    async def test_documents_answers_as_asked_in_one_state(self, store: Store) -> None:
        await commit(store, put(1, id_="a"), put(2, id_="b"))
        await drain(store)
        last = await commit(store, Delete("a"))
        found = await store.documents(["b", "missing", "a", "b"])
        assert [row and (row.id, row.version) for row in found.rows] == [
            ("b", 1),
            None,
            ("a", 2),
            ("b", 1),
        ]
        assert (await store.head()).revision.includes(found.revision)
        assert last.xid is not None
        assert found.revision.sees(last.xid)
        assert found.rollup == 1
        assert (await store.documents([])).rows == ()

    async def test_the_feed_brings_the_newest_version_once_per_rollup(self, store: Store) -> None:
        for n in range(3):
            await commit(store, put(n), put(n, id_=f"y{n}"))
        await drain(store)
        await commit(store, Delete("x"))
        await drain(store)
        first, second = await follow(store)
        assert {d.id: d.version for d in first.documents} == {"x": 3, "y0": 1, "y1": 1, "y2": 1}
        assert len(first.documents) == 4
        assert second.documents == (await store.documents(["x"])).rows

    async def test_a_bounded_rollup_publishes_the_version_of_its_own_revision(
        self, store: Store
    ) -> None:
        xids = [(await commit(store, put(n))).xid for n in range(3)]
        await drain(store, events_max=1)
        rollups = await follow(store)
        assert [r.documents[0].version for r in rollups] == [1, 2, 3]
        assert [r.documents[0].data for r in rollups] == [json(n=0), json(n=1), json(n=2)]
        assert [r.documents[0].xid for r in rollups] == xids

    async def test_text_of_any_kind_comes_back_exactly(self, store: Store) -> None:
        data = json(
            text='é 😀 "\\ \u2028 </script>', deep={"list": [1, 2.5, None, True]}, big=2**53
        )
        await commit(store, Put("a/ü '\"", "ty pe", data))
        document = await stored(store, "a/ü '\"")
        assert document is not None
        assert (document.type, document.data) == ("ty pe", data)
        await drain(store)
        assert (await follow(store))[0].documents == (document,)

    async def test_an_object_may_be_large(self, store: Store) -> None:
        data = json(text="x" * 60_000)
        await commit(store, Put("x", "page", data))
        await drain(store)
        assert (await follow(store))[0].documents[0].data == data
