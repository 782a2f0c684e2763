-- Accounts, and the transfers between them. Amounts in minor units; time in Unix milliseconds.

CREATE TABLE account (
    id TEXT PRIMARY KEY,
    balance INTEGER NOT NULL,
    held INTEGER NOT NULL CHECK (held >= 0),          -- kept for transfers out of here that are pending
    expected INTEGER NOT NULL CHECK (expected >= 0),  -- kept free for transfers to here that are pending
    floor INTEGER,                -- NULL: none
    ceiling INTEGER,
    version INTEGER NOT NULL,
    xid INTEGER NOT NULL,         -- the transaction that wrote this version
    CHECK (balance - held >= floor),
    CHECK (balance + expected <= ceiling)
) STRICT, WITHOUT ROWID;

CREATE TABLE transfer (
    id TEXT PRIMARY KEY,
    debit TEXT NOT NULL,
    credit TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    pending INTEGER NOT NULL,     -- whether it was made as a hold
    state TEXT NOT NULL,          -- pending, posted, voided or expired
    posted INTEGER NOT NULL,      -- what has moved
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    debit_balance INTEGER NOT NULL,  -- right after it was made
    credit_balance INTEGER NOT NULL,
    place INTEGER NOT NULL,       -- rises with every transfer from or to an account
    debit_open INTEGER NOT NULL,  -- whether `held` of its account still counts it
    credit_open INTEGER NOT NULL  -- the same for `expected`
) STRICT, WITHOUT ROWID;

-- History of an account.
CREATE INDEX transfer_debit ON transfer (debit, place);
CREATE INDEX transfer_credit ON transfer (credit, place);

-- Holds that may expire, by account, and all of them.
CREATE INDEX transfer_debit_open ON transfer (debit, expires_ms) WHERE debit_open;
CREATE INDEX transfer_credit_open ON transfer (credit, expires_ms) WHERE credit_open;
CREATE INDEX transfer_open ON transfer (expires_ms) WHERE debit_open OR credit_open;
