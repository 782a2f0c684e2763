"""The production store: PostgreSQL 15 or newer, with PgQ or a plain table as its queue."""

from groundswell.stores.postgres.schema import migrate
from groundswell.stores.postgres.standby import PostgresStandby
from groundswell.stores.postgres.store import PostgresStore

__all__ = ["PostgresStandby", "PostgresStore", "migrate"]
