"""Measure the demo's spike profile again from the real trace.

    python benchmarks/measure_profile.py PATH            writes profile.json into the package
    python benchmarks/measure_profile.py PATH --check    compares, and exits 1 with the differences

PATH is higgs-activity_time.txt.gz, the activity log of SNAP's higgs-twitter data set.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from groundswell.demo.profile import ProfileRecord, decode, encode, measure
from groundswell.demo.trace import TraceError, read_trace

PROFILE_JSON = Path(__file__).parents[1] / "src" / "groundswell" / "demo" / "profile.json"

SOURCE = "SNAP, higgs-twitter, https://snap.stanford.edu/data/higgs-twitter.html"
CITATION = (
    "M. De Domenico, A. Lima, P. Mougel, M. Musolesi, "
    '"The Anatomy of a Scientific Rumor", Scientific Reports 3:2980 (2013)'
)
SINCE_UNIX_S = 1_341_374_400
UNTIL_UNIX_S = 1_341_403_200
ACTIVITY = "RT"


def measure_record(path: Path) -> ProfileRecord:
    """The record of the trace at `path`. Raises TraceError when it cannot be read."""
    actions = read_trace(path, since=SINCE_UNIX_S, until=UNTIL_UNIX_S, only=ACTIVITY)
    if not actions:
        raise TraceError(path, f"expected {ACTIVITY} rows between {' and '.join(_window())}")
    return ProfileRecord(
        source=SOURCE,
        citation=CITATION,
        trace_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        window_utc=_window(),
        activity=ACTIVITY,
        profile=measure(actions),
    )


def differences(committed: object, measured: object, name: str = "") -> Iterator[str]:
    """One line for each figure or text in which two records, as plain values, differ."""
    if isinstance(committed, dict) and isinstance(measured, dict):
        pairs: list[tuple[Any, Any, Any]] = [
            (f".{key}" if name else key, committed.get(key), measured.get(key))
            for key in committed | measured
        ]
    elif isinstance(committed, tuple) and isinstance(measured, tuple):
        if len(committed) != len(measured):
            yield f"{name}: committed {len(committed)} entries, measured {len(measured)}"
            return
        pairs = [(f"[{i}]", *pair) for i, pair in enumerate(zip(committed, measured, strict=True))]
    else:
        if committed != measured:
            yield f"{name}: committed {committed!r}, measured {measured!r}"
        return
    for suffix, old, new in pairs:
        yield from differences(old, new, f"{name}{suffix}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the demo's spike profile from its trace.")
    parser.add_argument("path", type=Path, help="higgs-activity_time.txt.gz")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args(arguments)
    try:
        record = measure_record(options.path)
    except TraceError as error:
        parser.error(str(error))
    if not options.check:
        PROFILE_JSON.write_bytes(encode(record))
        return 0
    try:
        committed = decode(PROFILE_JSON.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        print(f"{PROFILE_JSON.name}: {error}", file=sys.stderr)
        return 1
    found = list(differences(msgspec.to_builtins(committed), msgspec.to_builtins(record)))
    print("\n".join(found) or "profile.json is what the trace gives")
    return 1 if found else 0


def _window() -> tuple[str, str]:
    since, until = (
        datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for t in (SINCE_UNIX_S, UNTIL_UNIX_S)
    )
    return since, until


if __name__ == "__main__":
    sys.exit(main())
