-- The rollup, the same for every queue: one call is one statement, which either happens or does not,
-- whatever becomes of whoever asked for it.

-- Where the store stands. `waiting` says whether this very statement sees an event that is not folded:
-- if not, it sees the same of ours as the newest rollup.
CREATE VIEW groundswell.state AS
SELECT newest.*, pg_current_snapshot() AS head,
       EXISTS (SELECT FROM groundswell.event WHERE xid >= groundswell.xmax(snapshot))
       OR EXISTS (SELECT FROM groundswell.event AS e WHERE e.xid = ANY (groundswell.xip(snapshot)))
       AS waiting
FROM (
    SELECT number, epoch, snapshot, xid, made_at
    FROM groundswell.rollup ORDER BY number DESC LIMIT 1
) AS newest;

-- Events that the rollup's state does not see, visible now.
CREATE FUNCTION groundswell.unfolded(snapshot pg_snapshot) RETURNS SETOF groundswell.event
LANGUAGE sql STABLE AS $$
    SELECT * FROM groundswell.event WHERE xid >= groundswell.xmax(snapshot)
    UNION ALL
    SELECT * FROM groundswell.event WHERE xid = ANY (groundswell.xip(snapshot))
$$;

-- The state at which a rollup of at least `events_max` events ends; null: at the tick. Every event holds
-- the state that its transaction found: a true state of the primary, hence in line with all others. The
-- one found by the first transaction after enough events have gone by is near; where it shows nothing
-- new, since its transaction ran beside the earlier ones, the search goes further on.
CREATE FUNCTION groundswell.stop_at(snapshot pg_snapshot, tick pg_snapshot, events_max bigint)
RETURNS pg_snapshot LANGUAGE plpgsql STABLE AS $$
DECLARE
    events bigint := events_max;
    enough bigint;
    stop pg_snapshot;
BEGIN
    LOOP
        SELECT xid INTO enough FROM groundswell.event
        WHERE xid >= groundswell.xmax(snapshot)
        ORDER BY xid OFFSET events - 1 LIMIT 1;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        SELECT seen INTO stop FROM groundswell.event
        WHERE xid > enough ORDER BY xid LIMIT 1;
        IF NOT FOUND OR groundswell.xmax(stop) >= groundswell.xmax(tick) THEN
            RETURN NULL;
        END IF;
        IF EXISTS (
            SELECT FROM groundswell.event
            WHERE xid >= groundswell.xmax(snapshot) AND xid < groundswell.xmax(stop)
                AND groundswell.sees(stop, xid))
        THEN
            RETURN stop;
        END IF;
        events := events * 2;
    END LOOP;
END
$$;

-- Folds events into counters and publishes them as the next rollup; no row where there is nothing to do.
-- Takes what there is, up to `events_max` events in whole transactions. Where there are no events it moves
-- on once the last rollup is as old as `idle` (null: never) and transactions of others have ended since,
-- so that states read in the meantime are covered too. Replaced by 0005_rollup.sql.
CREATE FUNCTION groundswell.roll_up(
    events_max bigint, rollups_kept bigint, idle interval, now_ms bigint)
RETURNS TABLE (number bigint, snapshot pg_snapshot, events bigint, more boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    last groundswell.state;
    next bigint;
    now_epoch bigint := groundswell.epoch();
    tick pg_snapshot;
    stop pg_snapshot;
    whole boolean;
    first_new bigint;
    late bigint[];
BEGIN
    -- The first look takes neither the lock nor a transaction id: idle nodes leave others alone. The
    -- second one sees what whoever held the lock has done.
    FOR look IN 1..2 LOOP
        SELECT * INTO STRICT last FROM groundswell.state;
        IF NOT (last.waiting OR last.epoch <> now_epoch OR coalesce(
            last.made_at < clock_timestamp() - idle
            AND groundswell.is_beyond(last.head, last.snapshot, last.xid), false))
        THEN
            RETURN;
        END IF;
        IF look = 1 THEN
            PERFORM pg_advisory_xact_lock(hashtextextended('groundswell.rollup', 0));
        END IF;
    END LOOP;

    next := last.number + 1;
    tick := groundswell.tick();
    stop := groundswell.stop_at(last.snapshot, tick, events_max);
    whole := stop IS NULL;
    stop := coalesce(stop, tick);
    first_new := groundswell.xmax(last.snapshot);
    late := groundswell.xip(last.snapshot);

    RETURN QUERY
    WITH taken AS MATERIALIZED (
        SELECT xid, type, kind, target, count, sum, data FROM groundswell.event AS e
        WHERE e.xid >= first_new AND e.xid < groundswell.xmax(stop) AND groundswell.sees(stop, e.xid)
        UNION ALL
        SELECT xid, type, kind, target, count, sum, data FROM groundswell.event AS e
        WHERE e.xid = ANY (late) AND groundswell.sees(stop, e.xid)
    ), folded AS MATERIALIZED (
        SELECT kind, target, sum(count)::bigint AS count, sum(sum)::bigint AS sum
        FROM taken WHERE type = 'count'
        GROUP BY kind, target
    ), moved AS (
        UPDATE groundswell.counter AS c
        SET count = c.count + f.count, sum = c.sum + f.sum, changed = next
        FROM folded AS f WHERE c.target = f.target AND c.kind = f.kind
        RETURNING c.kind, c.target, c.count, c.sum
    ), born AS (
        INSERT INTO groundswell.counter AS c (kind, target, count, sum, born, changed)
        SELECT f.kind, f.target, f.count, f.sum, next, next
        FROM folded AS f LEFT JOIN groundswell.counter AS known USING (kind, target)
        WHERE known.kind IS NULL
            -- Where all were known they are not looked up a second time.
            AND (SELECT count(*) FROM moved) < (SELECT count(*) FROM folded)
        RETURNING c.kind, c.target, c.count, c.sum
    ), counts AS (
        -- Names of kinds are identifiers: nothing in them that JSON would have to escape.
        SELECT count(*) AS changes, string_agg(
            concat(
                '["', c.kind, '",', CASE WHEN k.target = 'int' THEN c.target ELSE to_json(c.target)::text END,
                ',', c.count, ',', c.sum, ']'), ',') AS list
        FROM (SELECT * FROM moved UNION ALL SELECT * FROM born) AS c
        JOIN groundswell.kind AS k ON k.name = c.kind
    ), documents AS (
        SELECT count(*) AS changes, string_agg(
            format('[%s,%s,%s,%s,%s]', to_json(id), to_json(type), version, xid, coalesce(data, 'null')),
            ',') AS list
        FROM (
            SELECT DISTINCT ON (target)
                   target AS id, kind AS type, count AS version, taken.xid, data
            FROM taken WHERE type = 'object' ORDER BY target, count DESC
        ) AS latest
    ), published AS (
        INSERT INTO groundswell.rollup AS r
            (number, epoch, snapshot, xid, made_at, changes, counts, documents)
        SELECT next, now_epoch, stop, pg_current_xact_id()::text::bigint,
               groundswell.moment(now_ms, NULL), counts.changes + documents.changes,
               '[' || counts.list || ']', '[' || documents.list || ']'
        FROM counts, documents
        RETURNING r.number, r.snapshot
    )
    SELECT p.number, p.snapshot,
           (SELECT count(*) FROM taken),
           NOT whole
    FROM published AS p;

    PERFORM groundswell.finish(last.snapshot, stop);
    DELETE FROM groundswell.rollup AS r WHERE r.number <= next - rollups_kept;
    PERFORM pg_notify('groundswell', next::text);
END
$$;

INSERT INTO groundswell.rollup (number, epoch, snapshot, xid, made_at, changes)
VALUES (0, groundswell.epoch(), pg_current_snapshot(), 0, 'epoch', 0);
