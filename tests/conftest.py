"""What every test can use."""

from __future__ import annotations

import os
import secrets

import pytest
from hypothesis import settings

settings.register_profile("groundswell", print_blob=True, deadline=None)
settings.load_profile("groundswell")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def seed() -> int:
    """Of a random test; printed when it fails, and taken from GROUNDSWELL_TEST_SEED to replay it."""
    drawn = int(os.environ.get("GROUNDSWELL_TEST_SEED") or secrets.randbelow(2**32))
    print(f"GROUNDSWELL_TEST_SEED={drawn}")  # noqa: T201
    return drawn
