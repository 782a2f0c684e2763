"""Nodes shared by the tests of the server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

import nodes


@pytest.fixture(scope="session")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    """One node for all tests that do it no harm; they keep to targets of their own."""
    with nodes.running(tmp_path_factory.mktemp("node"), toml=nodes.KINDS) as node:
        yield node


@pytest.fixture
def node(shared_node: nodes.Node) -> Iterator[nodes.Node]:
    """The shared node; at the end of every test it is still at work."""
    yield shared_node
    assert shared_node.request("GET", "/readyz").status == 200
    assert "Traceback" not in shared_node.output()


_targets = itertools.count(1_000)


@pytest.fixture
def target() -> int:
    """A target that no other test touches."""
    return next(_targets)
