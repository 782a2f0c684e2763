"""The ending of a run, looked up in the servers and the replicas: what `final` asks for, at no cost."""

from __future__ import annotations

import msgspec

from groundswell.model import Id
from groundswell.replicas.memory import MemoryReplica
from groundswell.verify.final import TARGETS, Ending, Movement, Shown
from groundswell.verify.shape import ACCOUNTS, BANK, OBJECTS, Shape
from groundswell.verify.simulation.image import Image
from groundswell.verify.simulation.world import World


def looked_up(world: World, shape: Shape) -> Ending:
    """What there is now. A replica is taken to show the truth where it holds nothing."""
    image = world.primary.image
    shown: Shown = dict(
        zip(TARGETS, (one.count for one in image.current(_keys(shape))), strict=True)
    )
    for name in OBJECTS:
        found = image.documents.get(shape.name(name))
        shown[name] = None if found is None else _value(found.data)
    return Ending(
        shown=shown,
        sources={name: _sources(image, shape, name) for name in TARGETS},
        balances={name: image.accounts[shape.name(name)].balance for name in (BANK, *ACCOUNTS)},
        histories={name: _history(image, shape, name) for name in (BANK, *ACCOUNTS)},
        replicas={
            f"node {machine.number} {replica.name}": shown | _held(replica, shape)
            for machine in world.machines
            for replica in machine.replicas
        },
        converged_s=0.0,
    )


def _keys(shape: Shape) -> list[tuple[str, Id]]:
    return [shape.target(name) for name in TARGETS]


def _value(data: msgspec.Raw | None) -> int | None:
    return None if data is None else int(msgspec.json.decode(data)["value"])


def _held(replica: MemoryReplica, shape: Shape) -> Shown:
    rows = zip(TARGETS, replica.peek(_keys(shape)), strict=True)
    found: Shown = {name: row.count for name, row in rows if row is not None}
    for name in OBJECTS:
        [document] = replica._documents.peek([shape.name(name)])
        if document is not None:
            found[name] = _value(document.data)
    return found


def _sources(image: Image, shape: Shape, name: str) -> list[int]:
    return [int(key[2]) - shape.run for key in image.edges if key[:2] == shape.target(name)]


def _history(image: Image, shape: Shape, name: str) -> list[Movement]:
    prefix, account = len(shape.name("")), shape.name(name)
    made = [one for one in image.movements.values() if account in (one.debit, one.credit)]
    made.sort(key=lambda one: one.place)
    return [
        Movement(int(one.id[prefix:]), one.debit[prefix:], one.credit[prefix:], one.amount)
        for one in made
    ]
