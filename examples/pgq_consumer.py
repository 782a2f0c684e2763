"""Tell of every change as it happens, in a process of its own: a consumer of the store's PgQ queue.

`python pgq_consumer.py postgresql://user@host/database [NAME]`; the user needs PgQ's role pgq_reader.
Under its NAME the queue remembers how far it has come, also while it does not run.
"""

from __future__ import annotations

import sys
import time

import psycopg

EVENTS = "SELECT ev_type, ev_extra1, ev_extra2, ev_extra3, ev_data FROM pgq.get_batch_events(%s)"


def main(url: str, name: str = "example") -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pgq.register_consumer('groundswell', %s)", [name])
        while True:
            for (batch,) in connection.execute("SELECT pgq.next_batch('groundswell', %s)", [name]):
                if batch is None:
                    time.sleep(0.1)  # nothing was rolled up meanwhile
                    continue
                for type_, kind, target, change, data in connection.execute(EVENTS, [batch]):
                    if type_ == "count":
                        print(
                            f"{kind} {target}: count {int(change):+}, sum {int(data):+}", flush=True
                        )
                    elif type_ == "object":
                        print(f"{kind} {target}: version {change}, {data}", flush=True)
                connection.execute("SELECT pgq.finish_batch(%s)", [batch])


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: pgq_consumer.py URL [NAME]")
    main(*sys.argv[1:])
