-- A queue in a plain table, for servers without PgQ.

CREATE TABLE groundswell.event (
    xid bigint NOT NULL,
    seen pg_snapshot NOT NULL,    -- what its transaction found: a state to stop at in a long backlog
    type text NOT NULL,           -- count (which may move by 0: its edges changed) or object
    kind text,                    -- of an object: its type
    target text,                  -- of an object: its id
    count bigint,                 -- of an object: its version
    sum bigint,
    data text
);
CREATE INDEX event_xid ON groundswell.event (xid);

-- How far a rollup that begins now may go.
CREATE FUNCTION groundswell.tick() RETURNS pg_snapshot
LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN pg_current_snapshot(); END $$;

-- Lets go of what is folded: all that `state` sees and `before` did not. The bounds keep it from walking
-- over what earlier calls have deleted and vacuum has not yet removed.
CREATE FUNCTION groundswell.finish(before pg_snapshot, state pg_snapshot) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    DELETE FROM groundswell.event
    WHERE xid >= groundswell.xmax(before) AND xid < groundswell.xmax(state)
        AND groundswell.sees(state, xid);
    IF groundswell.xip(before) <> '{}' THEN
        DELETE FROM groundswell.event
        WHERE xid = ANY (groundswell.xip(before)) AND groundswell.sees(state, xid);
    END IF;
END
$$;
