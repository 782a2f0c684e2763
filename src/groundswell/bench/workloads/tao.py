"""`tao-a` and `tao-o`: TAOBench's mixes (VLDB 2022), drawn from its definitions, for both systems alike.

Reads: an object, an edge, the newest edges of an object (range), a count, as often as the definition says.
A read transaction is one page: so many edges of one viewer, at most 200; the objects in it are left out. A
write transaction is one atomic request. Sources and targets are in shards as popular as theirs.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from groundswell.bench import check, measure
from groundswell.bench.keepalive import Client, request
from groundswell.bench.load import write_requests, wrk
from groundswell.bench.measure import Bench
from groundswell.bench.results import Run
from groundswell.bench.systems import SYSTEMS
from groundswell.bench.workload import Workload, way
from groundswell.errors import BadSettings

SEED: Final = 20220905
OBJECTS: Final = 2_000  # in all shards together
EDGES: Final = 10  # of each object
FIRST: Final = 10_000  # their ids begin here, so that none is one of the check's
DRAWN: Final = 20_000  # requests, again and again
KEYS_MAX: Final = 200
WRITES: Final = 1_000  # in a request that fills
CLIENTS: Final = 32
DATA: Final = {"v": "x" * 142}  # 150 bytes

Weighted = tuple[Sequence[Any], Sequence[float]]


class Mix:
    """A definition: one JSON object in a line, each with values, or none, and their weights."""

    def __init__(self, path: Path) -> None:
        self._lines = {
            line["name"]: line for line in map(msgspec.json.decode, path.read_text().splitlines())
        }

    def of(self, name: str) -> Weighted:
        """What is drawn, and how often; without values it is numbers from 0 on."""
        line = self._lines[name]
        return line.get("values") or range(len(line["weights"])), line["weights"]


class Draw:
    """Draws requests from a mix; the same for everybody."""

    def __init__(self, mix: Mix) -> None:
        self._rng = random.Random(SEED)
        self._mix = {
            name: (values, list(itertools.accumulate(weights)))
            for name in (
                *("operations", "primary_shards", "read_operation_types", "write_operation_types"),
                *("read_txn_sizes", "write_txn_sizes", "write_txn_operation_types"),
            )
            for values, weights in [mix.of(name)]
        }
        shards = len(self._mix["primary_shards"][0])
        self._rows = OBJECTS // shards
        self._new = FIRST + OBJECTS
        self.objects = range(FIRST, FIRST + shards * self._rows)

    def _pick(self, name: str) -> Any:
        values, cumulated = self._mix[name]
        return self._rng.choices(values, cum_weights=cumulated)[0]

    def _object(self) -> int:
        return (
            FIRST + int(self._pick("primary_shards")) * self._rows + self._rng.randrange(self._rows)
        )

    def _edge(self) -> tuple[int, int]:
        """One that there is: see `filling`."""
        target = self._object()
        return target, target + 1 + self._rng.randrange(EDGES)

    def filling(self) -> list[dict[str, Any]]:
        """Writes of what there is at the begin."""
        writes = [_put(id) for id in self.objects]
        for target in self.objects:
            writes += [_add(target, target + 1 + n) for n in range(EDGES)]
        return writes

    def request(self) -> bytes:
        """The next one."""
        how: Sequence[Callable[[], bytes]] = (self._read, self._write, self._page, self._writes)
        return how[int(self._pick("operations"))]()

    def _read(self) -> bytes:
        match self._pick("read_operation_types"):
            case "obj_read":
                return request("GET", f"/v1/objects/{self._object()}")
            case "edge_point_read":
                return request("GET", "/v1/edges/like/{}/{}".format(*self._edge()))
            case "edge_count_read":
                return request("GET", f"/v1/counts/like/{self._object()}")
        return request("GET", f"/v1/edges/like/{self._object()}")  # the newest, by time

    def _one(self, kind: str) -> dict[str, Any]:
        match kind:
            case "obj_add":
                self._new += 1
                return _put(self._new)
            case "obj_update":
                return _put(self._object(), self._rng.random())
            case "edge_add":
                self._new += 1
                return _add(self._object(), 10**6 + self._new)
        return _add(*self._edge(), self._rng.random())

    def _write(self) -> bytes:
        one = self._one(self._pick("write_operation_types"))
        body = msgspec.json.encode({name: one[name] for name in ("type", "data") if name in one})
        if one["op"] == "put":
            return request("PUT", f"/v1/objects/{one['id']}", body)
        return request("PUT", f"/v1/edges/like/{one['target']}/{one['source']}", body)

    def _page(self) -> bytes:
        keys = [
            ("like", self._object()) for _ in range(min(self._pick("read_txn_sizes"), KEYS_MAX))
        ]
        body = {"viewer": self._object(), "keys": list(dict.fromkeys(keys)), "newest": 0}
        return request("POST", "/v1/page", msgspec.json.encode(body))

    def _writes(self) -> bytes:
        drawn = [
            self._one(self._pick("write_txn_operation_types"))
            for _ in range(self._pick("write_txn_sizes"))
        ]
        once = {(w["op"], w.get("id"), w.get("target"), w.get("source")): w for w in drawn}
        body = {"writes": list(once.values()), "atomic": True}
        return request("POST", "/v1/writes", msgspec.json.encode(body))


def _put(id: int, salt: float = 0.0) -> dict[str, Any]:
    return {"op": "put", "id": str(id), "type": "tao", "data": DATA | {"n": salt}}


def _add(target: int, source: int, salt: float = 0.0) -> dict[str, Any]:
    data = DATA | {"n": salt}
    return {"op": "add", "kind": "like", "target": target, "source": source, "data": data}


def _fill(url: str, writes: list[dict[str, Any]]) -> None:
    with Client(url) as client:
        for start in range(0, len(writes), WRITES):
            part = {"writes": writes[start : start + WRITES], "atomic": False}
            client.send(request("POST", "/v1/writes", msgspec.json.encode(part)))


async def mixed(bench: Bench, system: str, file: str) -> Run:
    """The mix for some seconds; counts are compared with the stored edges afterwards."""
    definition = bench.file(f"taobench/{file}")
    if definition is None:
        raise BadSettings(f"There is no taobench/{file}. Nothing was measured.")
    draw = Draw(Mix(definition))
    async with SYSTEMS[system].running(bench.databases, posts=draw.objects, lists=True) as running:
        await asyncio.to_thread(_fill, running.url, draw.filling())
        drawn = [draw.request() for _ in range(DRAWN // 4 if bench.quick else DRAWN)]
        path = write_requests(bench.folder / "requests", drawn)
        load = wrk(bench.folder, running.url, "cycle", path, clients=CLIENTS, seconds=bench.seconds)
        run = await measure.reads(running, load)
        await check.after(system, running, at_least=len(draw.objects) * EDGES)
        return run


def _workload(letter: str) -> Workload:
    file = f"workload_{letter}.json"

    def skipped(bench: Bench) -> str:
        if bench.file(f"taobench/{file}"):
            return ""
        return f"--data names no folder with taobench/{file}; docs/performance.md says where it comes from."

    return Workload(
        f"tao-{letter}",
        f"TAOBench's workload {letter.upper()}: objects, edges and transactions over both",
        "requests",
        [
            way(system, partial(mixed, system=system, file=file), label)
            for system, label in (("groundswell", "groundswell"), ("graph", "inline"))
        ],
        f"{CLIENTS} clients, {OBJECTS:,} objects with {EDGES} edges each, 150 bytes of data; ranges and "
        "counts are real ones; a read transaction is a page of at most 200 edges without its objects.",
        skipped=skipped,
    )


TAO: Final = [_workload(letter) for letter in "ao"]
