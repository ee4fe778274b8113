-- Whether a root says all is told by its sum.
DROP INDEX vouchers_issued;

-- Accounts on the chain whose deposits in the escrow are buyers' credit: one account a buyer, one buyer an account.
CREATE TABLE deposits (
    account   BLOB PRIMARY KEY,
    buyer     TEXT NOT NULL UNIQUE,
    escrow    BLOB NOT NULL,
    linked_ms INTEGER NOT NULL,
    -- As last seen on the chain, and at which block: what was put in and not taken back, what of it the hub's wallet was
    -- paid, and from when on (seconds since 1970) the buyer can take back; 0 where that was not announced.
    put       BLOB NOT NULL,
    claimed   BLOB NOT NULL,
    open_from INTEGER NOT NULL,
    block     INTEGER NOT NULL,
    -- What of it these books hold as the buyer's credit, and how often that has changed.
    booked    BLOB NOT NULL,
    changes   INTEGER NOT NULL,
    -- All that the buyer has signed for.
    confirmed BLOB NOT NULL,
    signature BLOB,
    -- All that the buyer was ever granted, and has ever spent: what is granted is spent first.
    granted   BLOB NOT NULL,
    spent     BLOB NOT NULL
) STRICT;

-- A transaction posts a root, or brings what a buyer has signed for.
CREATE TABLE transactions_new (
    id      INTEGER PRIMARY KEY,
    root    INTEGER REFERENCES roots (id),
    account BLOB REFERENCES deposits (account),
    nonce   INTEGER NOT NULL,
    hash    BLOB NOT NULL UNIQUE,
    raw     BLOB NOT NULL,
    -- Per unit of gas, in units of 10^-18 ether.
    fee     BLOB NOT NULL,
    made_ms INTEGER NOT NULL,
    state   TEXT NOT NULL,
    CHECK ((root IS NULL) != (account IS NULL))
) STRICT;
INSERT INTO transactions_new (id, root, nonce, hash, raw, fee, made_ms, state)
    SELECT id, root, nonce, hash, raw, fee, made_ms, state FROM transactions;
DROP TABLE transactions;
ALTER TABLE transactions_new RENAME TO transactions;
CREATE INDEX transactions_open ON transactions (nonce) WHERE state = 'open';
CREATE INDEX transactions_account ON transactions (account) WHERE account IS NOT NULL;
