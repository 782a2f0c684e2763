-- The tables that every Groundswell database has. Edge tables are made per declared kind.
-- Units: *_ms is Unix time in milliseconds. xid is the number of a write transaction.

CREATE TABLE identity (
    store TEXT NOT NULL,          -- what session tokens name
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO identity VALUES (lower(hex(randomblob(8))), 1);

-- One row: where the store stands.
CREATE TABLE head (
    xid INTEGER NOT NULL,         -- the last write transaction
    at_ms INTEGER NOT NULL,       -- its time; never falls, whatever the clock does
    rollup INTEGER NOT NULL,      -- the last rollup
    rolled_xid INTEGER NOT NULL   -- the last write transaction within it
) STRICT;
INSERT INTO head VALUES (0, 0, 0, 0);

-- The declared kinds whose tables exist.
CREATE TABLE kind (
    name TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    is_unique INTEGER NOT NULL,
    is_exclusive INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The queue: per transaction and key the summed change that no rollup has folded yet.
CREATE TABLE event (
    xid INTEGER NOT NULL,
    kind TEXT NOT NULL,
    target ANY NOT NULL,
    count INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (xid, kind, target)
) STRICT, WITHOUT ROWID;

-- The queue of objects: each version whole, since a later one may replace it before the rollup.
CREATE TABLE object_event (
    xid INTEGER NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    data TEXT,
    PRIMARY KEY (xid, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    kind TEXT NOT NULL,
    target ANY NOT NULL,
    count INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    born INTEGER NOT NULL,        -- the rollup that first changed it
    changed INTEGER NOT NULL,     -- the rollup that last changed it
    PRIMARY KEY (kind, target)
) STRICT, WITHOUT ROWID;

-- Idempotency ids of tallies.
CREATE TABLE tally (
    kind TEXT NOT NULL,
    target ANY NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (kind, target, id)
) STRICT, WITHOUT ROWID;

-- A deleted object keeps its row (data NULL), so that its version goes on where it is put again.
CREATE TABLE object (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    xid INTEGER NOT NULL,         -- the transaction that wrote this version
    data TEXT
) STRICT, WITHOUT ROWID;

-- The change feed.
CREATE TABLE rollup (
    number INTEGER PRIMARY KEY,
    xid INTEGER NOT NULL,         -- the last write transaction within it
    changes INTEGER NOT NULL      -- rows below that belong to it
) STRICT;

CREATE TABLE change (
    rollup INTEGER NOT NULL,
    kind TEXT NOT NULL,
    target ANY NOT NULL,
    count INTEGER NOT NULL CHECK (count >= 0),  -- here, since every published state passes here
    sum INTEGER NOT NULL,
    PRIMARY KEY (rollup, kind, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE object_change (
    rollup INTEGER NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    xid INTEGER NOT NULL,
    data TEXT,
    PRIMARY KEY (rollup, id)
) STRICT, WITHOUT ROWID;
