-- The tables that every Groundswell store on PostgreSQL has. Edge tables are made per declared kind, the
-- relation `event` and the functions `tick` and `finish` by the queue (0002_queue.*.sql).
--
-- Transaction ids are kept as bigint, as PgQ keeps them; snapshots are those of the primary.

CREATE TABLE groundswell.identity (
    store text NOT NULL,          -- what session tokens name, with the cluster's own identifier
    queue text NOT NULL           -- pgq or outbox
);

-- The declared kinds whose tables exist.
CREATE TABLE groundswell.kind (
    name text PRIMARY KEY,
    source text NOT NULL,         -- id types: int, uuid or text
    target text NOT NULL,
    is_unique boolean NOT NULL,
    is_exclusive boolean NOT NULL
);

-- Ids of every type as text, so that one table holds the counters of all kinds.
CREATE TABLE groundswell.counter (
    kind text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    count bigint NOT NULL CHECK (count >= 0),
    sum bigint NOT NULL,
    born bigint NOT NULL,         -- the rollup that first changed it
    changed bigint NOT NULL,      -- the rollup that last changed it
    PRIMARY KEY (target, kind)
) WITH (fillfactor = 70);         -- room for updates within the page

-- Idempotency ids of tallies.
CREATE TABLE groundswell.tally (
    kind text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    PRIMARY KEY (target, kind, id)
);

-- A deleted object keeps its row (data null), so that its version goes on where it is put again.
CREATE TABLE groundswell.object (
    id text COLLATE "C" PRIMARY KEY,
    type text NOT NULL,
    version bigint NOT NULL,
    xid bigint NOT NULL,          -- the transaction that wrote this version
    data json
);

-- The change feed: one row per rollup, with all its changes as JSON, as they are sent on.
CREATE TABLE groundswell.rollup (
    number bigint PRIMARY KEY,
    epoch bigint NOT NULL,        -- timeline it was made on
    snapshot pg_snapshot NOT NULL,
    xid bigint NOT NULL,          -- its own transaction, which changes nothing of what it shows
    made_at timestamptz NOT NULL, -- never falls, whatever the clock does
    changes bigint NOT NULL,
    counts text,                  -- [[kind, target, count, sum], ..]
    documents text                -- [[id, type, version, xid, data], ..]
);
ALTER TABLE groundswell.rollup
    ALTER COLUMN counts SET STORAGE EXTERNAL,
    ALTER COLUMN documents SET STORAGE EXTERNAL;

-- Small functions that the planner can put in place of their calls: hence no subqueries in them, and
-- none declared less volatile than what it is made of.
CREATE FUNCTION groundswell.sees(state pg_snapshot, xid bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_visible_in_snapshot(xid::text::xid8, state) $$;

CREATE FUNCTION groundswell.xmax(state pg_snapshot) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_snapshot_xmax(state)::text::bigint $$;

CREATE FUNCTION groundswell.xip(state pg_snapshot) RETURNS bigint[]
LANGUAGE sql IMMUTABLE AS $$ SELECT string_to_array(split_part(state::text, ':', 3), ',')::bigint[] $$;

-- Unix time in milliseconds, as the program speaks of time, within what timestamps can hold.
CREATE FUNCTION groundswell.instant(ms bigint) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN ms IS NOT NULL THEN 'epoch'::timestamptz
        + greatest(least(ms, 9200000000000000), -210000000000000) * interval '1 millisecond' END
$$;

CREATE FUNCTION groundswell.ms(instant timestamptz) RETURNS bigint
LANGUAGE sql STABLE AS $$ SELECT (extract(epoch FROM instant) * 1000)::bigint $$;

-- Whether `head` sees a transaction that `state` does not; `own` (0: none) does not matter. In PL/pgSQL
-- because the planner cannot put the subquery in place of the call, and would plan it at each one.
CREATE FUNCTION groundswell.is_beyond(head pg_snapshot, state pg_snapshot, own bigint) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF groundswell.xmax(head) > greatest(groundswell.xmax(state), own + 1) THEN
        RETURN true;
    ELSIF groundswell.xip(state) = '{}' AND groundswell.xmax(state) > own THEN
        RETURN false;
    END IF;
    RETURN EXISTS (
        SELECT FROM (
            SELECT unnest(groundswell.xip(state))
            UNION ALL SELECT generate_series(groundswell.xmax(state), own)
        ) AS missing (x)
        WHERE x <> own AND groundswell.sees(head, x));
END
$$;

-- When a commit that begins now happens: never before `floor_ms`, nor before what a rollup has published.
CREATE FUNCTION groundswell.moment(now_ms bigint, floor_ms bigint) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN date_trunc('milliseconds', greatest(
        coalesce(groundswell.instant(now_ms), clock_timestamp()), groundswell.instant(floor_ms),
        (SELECT made_at FROM groundswell.rollup ORDER BY number DESC LIMIT 1)));
END
$$;

-- The timeline of the primary: new after every promotion.
CREATE FUNCTION groundswell.epoch() RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int::bigint
$$;
