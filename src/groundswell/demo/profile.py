"""The profile of a viral spike: its figures, measured from a trace, and new spikes drawn from them.

`profile.json` holds the figures of a real spike, the retweets of eight hours after the announcement
of the Higgs boson. The trace itself is not in the package; `benchmarks/measure_profile.py` measures
the file again from it.
"""

from __future__ import annotations

import random
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from itertools import accumulate, cycle, groupby, islice
from typing import TypeVar

import msgspec

from groundswell.demo.trace import Action

SEED = 20120704

_MS_PER_MINUTE = 60_000
_LINE_WIDTH = 100

_T = TypeVar("_T")


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The figures of a spike. Raises ValueError when they contradict each other."""

    #: Start of the first minute, in seconds since the epoch.
    start_unix_s: int
    #: All actions, repeats included.
    actions_total: int
    #: Different (target, source) pairs.
    edges_distinct: int
    #: Different sources.
    sources_distinct: int
    #: Share of the actions that repeat an earlier (target, source), from 0 to 1.
    repeats_share: float
    #: Actions in each minute.
    actions_per_minute: tuple[int, ...]
    #: Popularity by rank, in runs from the top: (distinct sources, how many targets have them).
    distinct_sources_and_targets: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        edges = sum(sources * targets for sources, targets in self.distinct_sources_and_targets)
        if self.actions_total < 1 or self.actions_total != sum(self.actions_per_minute):
            raise ValueError("actions_total is not the sum of actions_per_minute, or not positive")
        if self.edges_distinct < 1 or self.edges_distinct != edges:
            raise ValueError("edges_distinct is not the sum of distinct_sources_and_targets")
        if self.repeats_share != _repeats_share(self.actions_total, edges):
            raise ValueError("repeats_share does not follow from actions_total and edges_distinct")


class ProfileRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A profile and where it comes from: the content of a profile file."""

    #: Name and place of the trace.
    source: str
    #: What to cite when the trace or these figures are used.
    citation: str
    #: SHA-256 of the trace file as its publisher offers it, in hexadecimal.
    trace_sha256: str
    #: First and last instant of the cut, the last excluded (ISO 8601).
    window_utc: tuple[str, str]
    #: Activity of the trace that was kept.
    activity: str
    #: The figures.
    profile: Profile


def measure(actions: Iterable[Action]) -> Profile:
    """The profile of these actions, in whatever order they come.

    Minutes are counted from the full minute of the first action to that of the last. Every action
    counts, whatever its kind and op. Raises ValueError when there are none.
    """
    listed = list(actions)
    if not listed:
        raise ValueError("a profile needs at least one action")
    minutes = Counter(int(action.t // 60) for action in listed)
    edges = {(action.target, action.source) for action in listed}
    popularity = Counter(target for target, _ in edges)
    first = min(minutes)
    return Profile(
        start_unix_s=first * 60,
        actions_total=len(listed),
        edges_distinct=len(edges),
        sources_distinct=len({source for _, source in edges}),
        repeats_share=_repeats_share(len(listed), len(edges)),
        actions_per_minute=tuple(minutes[m] for m in range(first, max(minutes) + 1)),
        distinct_sources_and_targets=tuple(
            (sources, sum(1 for _ in run))
            for sources, run in groupby(sorted(popularity.values(), reverse=True))
        ),
    )


def load() -> Profile:
    """The profile that comes with the package."""
    return load_record().profile


def load_record() -> ProfileRecord:
    """The profile that comes with the package, with its source, citation and checksum."""
    return decode(resources.files(__package__).joinpath("profile.json").read_bytes())


def decode(content: bytes) -> ProfileRecord:
    """The record in the bytes of a profile file. Raises msgspec.DecodeError if it is none."""
    return msgspec.json.decode(content, type=ProfileRecord)


def encode(record: ProfileRecord) -> bytes:
    """The bytes of a profile file: JSON with one key per line, long rows of figures wrapped."""
    fields = msgspec.to_builtins(record)
    figures = fields.pop("profile")
    head = "".join(f"  {_pair(key, value)},\n" for key, value in fields.items())
    body = ",\n".join(f"    {_pair(key, value)}" for key, value in figures.items())
    return f'{{\n{head}  "profile": {{\n{body}\n  }}\n}}\n'.encode()


def draw(profile: Profile, *, seed: int = SEED, actions: int | None = None) -> list[Action]:
    """A spike with the figures of the profile, sorted by time; the same seed gives the same spike.

    It has exactly the profile's actions in each minute, at random milliseconds of it; its distinct
    edges and sources; and its popularity: targets are 1, 2, ... by rank, and each has as many
    distinct sources as measured. Sources are ints above all targets. Which edge happens when is
    random over the whole spike, and so is which earlier edge a repeat repeats. Every action adds
    a `like`.

    With `actions` the spike has that many, all figures are scaled in proportion, and targets left
    without a source fall away. Raises ValueError when `actions` is less than 1.
    """
    total = profile.actions_total if actions is None else actions
    if total < 1:
        raise ValueError(f"a spike needs at least one action, not {total}")
    rng = random.Random(seed)
    edges_total = max(1, profile.edges_distinct * total // profile.actions_total)
    edges = _shuffled(_edges(profile, edges_total, rng), rng)
    minutes = _scaled(profile.actions_per_minute, total)
    return [
        Action(t, "like", target, source, "add")
        for t, (target, source) in zip(
            _times(profile.start_unix_s, minutes, rng),
            _with_repeats(edges, total, rng),
            strict=True,
        )
    ]


def _repeats_share(actions: int, edges: int) -> float:
    return round(1 - edges / actions, 6)


def _pair(key: str, value: object) -> str:
    """One key of a profile file with its value; a long array is wrapped between its entries."""
    text = msgspec.json.encode(value).decode()
    if isinstance(value, list | tuple) and len(text) > _LINE_WIDTH:
        entries = ", ".join(msgspec.json.encode(entry).decode() for entry in value)
        indent = " " * 6
        wrapped = textwrap.fill(
            entries, _LINE_WIDTH, initial_indent=indent, subsequent_indent=indent
        )
        text = f"[\n{wrapped}\n    ]"
    return f'"{key}": {text}'


def _edges(profile: Profile, edges_total: int, rng: random.Random) -> list[tuple[int, int]]:
    """Distinct (target, source) by rank of the target; sources are dealt round by round."""
    measured = [n for n, targets in profile.distinct_sources_and_targets for _ in range(targets)]
    popularity = sorted(filter(None, _scaled(measured, edges_total)), reverse=True)
    sources = max(popularity[0], profile.sources_distinct * edges_total // profile.edges_distinct)
    first = len(popularity) + 1
    deal = cycle(_shuffled(range(first, first + sources), rng))
    return [
        (target, source)
        for target, count in enumerate(popularity, start=1)
        for source in islice(deal, count)
    ]


def _with_repeats(
    edges: Sequence[tuple[int, int]], total: int, rng: random.Random
) -> Iterator[tuple[int, int]]:
    """`total` edges: each of `edges` in order, and in between repeats of those before."""
    used = 0
    for left in range(total, 0, -1):
        fresh_left = len(edges) - used
        if used == 0 or rng.random() * left < fresh_left:
            yield edges[used]
            used += 1
        else:
            yield edges[int(rng.random() * used)]


def _times(start_unix_s: int, minutes: Iterable[int], rng: random.Random) -> Iterator[float]:
    """Sorted times in seconds, uniform within each minute, in whole milliseconds."""
    for minute, count in enumerate(minutes):
        start_ms = start_unix_s * 1000 + minute * _MS_PER_MINUTE
        for offset_ms in sorted(int(rng.random() * _MS_PER_MINUTE) for _ in range(count)):
            yield (start_ms + offset_ms) / 1000


def _scaled(figures: Sequence[int], total: int) -> list[int]:
    """The figures in proportion, so that their sum is `total`; none is off by one or more."""
    whole = sum(figures)
    ends = [end * total // whole for end in accumulate(figures)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _shuffled(items: Iterable[_T], rng: random.Random) -> list[_T]:
    """The items in random order.

    Only `random()` is promised to give the same numbers in every version of Python, so the order
    comes from that.
    """
    return sorted(items, key=lambda _: rng.random())
