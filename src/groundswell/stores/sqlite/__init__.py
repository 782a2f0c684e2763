"""The embedded store: one SQLite file in WAL mode, shared by any number of processes of one machine."""

from groundswell.stores.sqlite.store import SqliteStore, migrate

__all__ = ["SqliteStore", "migrate"]
