"""The metrics of one node: their names, their meaning, and nothing else."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)


class Telemetry:
    """Every metric of a node, in a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(f"groundswell_{name}", help_, labels, registry=registry)

        def gauge(name: str, help_: str, *labels: str) -> Gauge:
            return Gauge(f"groundswell_{name}", help_, labels, registry=registry)

        def histogram(name: str, help_: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"groundswell_{name}", help_, buckets=buckets, registry=registry)

        self.writes = counter("writes", "Writes acknowledged, by outcome.", "outcome")
        self.overloaded = counter("overloaded", "Writes refused because the queue was full.")
        self.commit_writes = histogram("commit_writes", "Writes in one group commit.", _SIZES)
        self.commit_seconds = histogram("commit_seconds", "Duration of a group commit.", _SECONDS)
        self.backlog = gauge("backlog_events", "Events that wait for a rollup.")
        self.rollup_events = histogram("rollup_events", "Events folded by one rollup.", _SIZES)
        self.rollup_seconds = histogram("rollup_seconds", "Duration of a rollup.", _SECONDS)
        self.rollup_number = gauge("rollup_number", "Newest rollup of the store.")
        self.replica_age = gauge("replica_age_seconds", "How old a replica may be.", "replica")
        self.replica_rollup = gauge("replica_rollup_number", "Where a replica stands.", "replica")
        self.replica_away = gauge("replica_away", "Whether a replica cannot be reached.", "replica")
        self.reads = counter("reads", "Reads answered.", "level", "served_by")
        self.waits = counter("read_waits", "Reads that waited for a replica.", "level")
        self.fallbacks = counter("read_fallbacks", "Reads that went to the primary.", "level")
        self.late = counter("reads_late", "Reads refused as replica-late.", "level")
        self.streams = gauge("streams_open", "Streams of counts that are open.")
        self.http = counter("http_responses", "Responses other than 200, by status.", "status")

    @staticmethod
    def observed(histogram: Histogram) -> tuple[int, int]:
        """How much a histogram of sizes has seen: their sum, and how many there were."""
        [family] = histogram.collect()
        seen = {sample.name: sample.value for sample in family.samples}
        return int(seen[f"{family.name}_sum"]), int(seen[f"{family.name}_count"])

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)
