-- The rollup again, at two thirds of the cost where counts are new (docs/performance.md has the figures).
-- What it takes, counts and publishes is as before.

CREATE FUNCTION groundswell.xmin(state pg_snapshot) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_snapshot_xmin(state)::text::bigint $$;

-- The sum as a bigint; sum() goes by way of numeric.
CREATE AGGREGATE groundswell.total(bigint) (SFUNC = int8pl, STYPE = bigint);

-- Folds events into counters and publishes them as the next rollup; no row where there is nothing to do.
-- Takes what there is, up to `events_max` events in whole transactions. Where there are no events it moves
-- on once the last rollup is as old as `idle` (null: never) and transactions of others have ended since,
-- so that states read in the meantime are covered too.
--
-- Counters are looked up by their keys, however few there were when that was planned: a join that reads all
-- of them may be cheaper then, and is no more when they have become many.
CREATE OR REPLACE FUNCTION groundswell.roll_up(
    events_max bigint, rollups_kept bigint, idle interval, now_ms bigint)
RETURNS TABLE (number bigint, snapshot pg_snapshot, events bigint, more boolean)
LANGUAGE plpgsql VOLATILE SET enable_mergejoin = off SET enable_hashjoin = off AS $$
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
    all_seen bigint;  -- `stop` sees all below, which need not be looked at one by one
    none_seen bigint;  -- and nothing from here on
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
    all_seen := groundswell.xmin(stop);
    none_seen := groundswell.xmax(stop);

    RETURN QUERY
    WITH fresh AS NOT MATERIALIZED (
        SELECT * FROM groundswell.event AS e
        WHERE e.xid >= first_new AND e.xid < none_seen
            AND (e.xid < all_seen OR groundswell.sees(stop, e.xid))
    ), belated AS NOT MATERIALIZED (
        SELECT * FROM groundswell.event AS e
        WHERE e.xid = ANY (late) AND groundswell.sees(stop, e.xid)
    ), folded AS (
        SELECT target, kind, count(*) AS events,
               groundswell.total(count) AS count, groundswell.total(sum) AS sum
        FROM (
            SELECT target COLLATE "C" AS target, kind, count, sum FROM fresh WHERE type = 'count'
            UNION ALL
            SELECT target, kind, count, sum FROM belated WHERE type = 'count'
            -- As the counters' index is: neighbours are looked up, changed and put in one after the other.
            ORDER BY target, kind
        ) AS moves
        GROUP BY target, kind
    ), moved AS MATERIALIZED (
        -- Nobody else writes counters, and the lock is held: a counter is looked up once, and stays where
        -- it was found.
        SELECT f.target, f.kind, f.events, f.count + coalesce(c.count, 0) AS count,
               f.sum + coalesce(c.sum, 0) AS sum, c.ctid AS place
        FROM folded AS f LEFT JOIN groundswell.counter AS c USING (target, kind)
    ), known AS (
        UPDATE groundswell.counter AS c SET count = m.count, sum = m.sum, changed = next
        FROM moved AS m WHERE m.place IS NOT NULL AND c.ctid = m.place
    ), born AS (
        INSERT INTO groundswell.counter (kind, target, count, sum, born, changed)
        SELECT kind, target, count, sum, next, next FROM moved WHERE place IS NULL
    ), counts AS (
        -- Names of kinds are identifiers: nothing in them that JSON would have to escape.
        SELECT count(*) AS changes, coalesce(groundswell.total(m.events), 0) AS events, string_agg(
            m.kind || '",' || CASE WHEN m.kind IN (
                SELECT name FROM groundswell.kind WHERE target = 'int')
            THEN m.target ELSE to_json(m.target)::text END || ',' || m.count || ',' || m.sum,
            '],["') AS list
        FROM moved AS m
    ), put AS MATERIALIZED (
        SELECT target AS id, kind AS type, count AS version, xid, data FROM fresh WHERE type = 'object'
        UNION ALL
        SELECT target, kind, count, xid, data FROM belated WHERE type = 'object'
    ), documents AS (
        SELECT count(*) AS changes, string_agg(
            format('[%s,%s,%s,%s,%s]', to_json(id), to_json(type), version, xid, coalesce(data, 'null')),
            ',') AS list
        FROM (SELECT DISTINCT ON (id) * FROM put ORDER BY id, version DESC) AS latest
    ), published AS (
        INSERT INTO groundswell.rollup AS r
            (number, epoch, snapshot, xid, made_at, changes, counts, documents)
        SELECT next, now_epoch, stop, pg_current_xact_id()::text::bigint,
               groundswell.moment(now_ms, NULL), counts.changes + documents.changes,
               '[["' || counts.list || ']]', '[' || documents.list || ']'
        FROM counts, documents
        RETURNING r.number, r.snapshot
    )
    SELECT p.number, p.snapshot, counts.events + (SELECT count(*) FROM put), NOT whole
    FROM published AS p, counts;

    PERFORM groundswell.finish(last.snapshot, stop);
    DELETE FROM groundswell.rollup AS r WHERE r.number <= next - rollups_kept;
    PERFORM pg_notify('groundswell', next::text);
END
$$;
