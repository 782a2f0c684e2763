-- The queue `groundswell` of PgQ, open to other consumers. Its ticks are made by the rollup alone: pgqd
-- passes over queues with an external ticker.

DO $$
DECLARE
    parent text;
BEGIN
    PERFORM pgq.create_queue('groundswell');
    PERFORM pgq.set_queue_config('groundswell', 'external_ticker', 'true');
    PERFORM pgq.set_queue_config('groundswell', 'rotation_period', '10 minutes');
    PERFORM pgq.register_consumer('groundswell', 'groundswell');
    SELECT queue_data_pfx INTO parent FROM pgq.queue WHERE queue_name = 'groundswell';
    -- Read as a table and not through get_batch_events, which would sort and copy a long backlog whole at
    -- every step.
    EXECUTE format($view$
        CREATE VIEW groundswell.event AS
        SELECT ev_txid AS xid, ev_extra4::pg_snapshot AS seen, ev_type AS type, ev_extra1 AS kind,
               ev_extra2 AS target, ev_extra3::bigint AS count,
               CASE WHEN ev_type = 'count' THEN ev_data::bigint END AS sum, ev_data AS data
        FROM %s $view$, parent::regclass);
END
$$;

-- How far a rollup that begins now may go: a tick made now. The rollup holds a lock, so that ticks are
-- made one after the other, and a later one never holds an older snapshot.
CREATE FUNCTION groundswell.tick() RETURNS pg_snapshot
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    queue pgq.queue;
    next bigint;
BEGIN
    SELECT * INTO STRICT queue FROM pgq.queue WHERE queue_name = 'groundswell';
    SELECT max(tick_id) + 1 INTO STRICT next FROM pgq.tick WHERE tick_queue = queue.queue_id;
    PERFORM pgq.ticker('groundswell', next, clock_timestamp(), pgq.seq_getval(queue.queue_event_seq));
    RETURN (
        SELECT tick_snapshot::text::pg_snapshot FROM pgq.tick
        WHERE tick_queue = queue.queue_id AND tick_id = next);
END
$$;

-- Lets go of what is folded: the batches of which `state` sees everything. A bounded rollup ends within
-- one, which stays open and keeps its events from being rotated away.
CREATE FUNCTION groundswell.finish(before pg_snapshot, state pg_snapshot) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    newest bigint;
    batch record;
BEGIN
    SELECT max(tick_id) INTO STRICT newest
    FROM pgq.tick JOIN pgq.queue ON queue_id = tick_queue WHERE queue_name = 'groundswell';
    LOOP
        batch := pgq.next_batch_custom('groundswell', 'groundswell', NULL, NULL, NULL);
        EXIT WHEN batch.batch_id IS NULL OR groundswell.is_beyond((
            SELECT tick_snapshot::text::pg_snapshot
            FROM pgq.tick JOIN pgq.queue ON queue_id = tick_queue
            WHERE queue_name = 'groundswell' AND tick_id = batch.cur_tick_id), state, 0);
        PERFORM pgq.finish_batch(batch.batch_id);
        EXIT WHEN batch.cur_tick_id = newest;  -- spares the question whether there is another
    END LOOP;
END
$$;
