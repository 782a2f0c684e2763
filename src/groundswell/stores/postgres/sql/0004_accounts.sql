-- Accounts, and the transfers between them. Amounts in minor units.

CREATE TABLE groundswell.account (
    id text COLLATE "C" PRIMARY KEY,
    balance bigint NOT NULL,
    held bigint NOT NULL CHECK (held >= 0),          -- kept for transfers out of here that are pending
    expected bigint NOT NULL CHECK (expected >= 0),  -- kept free for transfers to here that are pending
    floor bigint,                 -- null: none
    ceiling bigint,
    version bigint NOT NULL,      -- 0 only within the transaction that makes it
    xid bigint NOT NULL,          -- the transaction that wrote this version
    CHECK (balance - held >= floor),
    CHECK (balance + expected <= ceiling)
) WITH (fillfactor = 70);         -- room for updates within the page

CREATE TABLE groundswell.transfer (
    id text COLLATE "C" PRIMARY KEY,
    debit text COLLATE "C" NOT NULL,
    credit text COLLATE "C" NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    pending boolean NOT NULL,     -- whether it was made as a hold
    state text NOT NULL,          -- pending, posted, voided or expired
    posted bigint NOT NULL,       -- what has moved
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    debit_balance bigint NOT NULL,  -- right after it was made
    credit_balance bigint NOT NULL,
    place bigint NOT NULL,        -- rises with every transfer from or to an account
    debit_open boolean NOT NULL,  -- whether `held` of its account still counts it
    credit_open boolean NOT NULL  -- the same for `expected`
);

-- The number of a commit that makes transfers, taken when it has locked its accounts.
CREATE SEQUENCE groundswell.transfer_commit;

-- History of an account.
CREATE INDEX transfer_debit ON groundswell.transfer (debit, place);
CREATE INDEX transfer_credit ON groundswell.transfer (credit, place);

-- Holds that may expire, by account, and all of them.
CREATE INDEX transfer_debit_open ON groundswell.transfer (debit, expires_at) WHERE debit_open;
CREATE INDEX transfer_credit_open ON groundswell.transfer (credit, expires_at) WHERE credit_open;
CREATE INDEX transfer_open ON groundswell.transfer (expires_at) WHERE debit_open OR credit_open;
