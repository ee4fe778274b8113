-- What the books are kept for: the EIP-712 domain of every voucher, fixed by the first.
CREATE TABLE domain (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    chain_id INTEGER NOT NULL,
    wallet   BLOB NOT NULL
) STRICT;
INSERT INTO domain SELECT 1, chain_id, wallet FROM vouchers LIMIT 1;

-- Whether anything was issued since the last root.
CREATE INDEX vouchers_issued ON vouchers (issued_ms);

-- A period's root over what every device is owed by its latest voucher, and the list that it is over.
CREATE TABLE roots (
    id        INTEGER PRIMARY KEY,
    root      BLOB NOT NULL,
    total     BLOB NOT NULL,
    lines     INTEGER NOT NULL,
    -- What of it had been paid on the chain when it was made.
    paid_seen BLOB NOT NULL,
    made_ms   INTEGER NOT NULL,
    -- Seconds since 1970 from which on it can be claimed by; NULL until it is certain to be on the chain.
    active_at INTEGER
) STRICT;
CREATE TABLE root_lines (
    root       INTEGER NOT NULL REFERENCES roots (id) ON DELETE CASCADE,
    place      INTEGER NOT NULL,
    device     BLOB NOT NULL,
    cumulative BLOB NOT NULL,
    PRIMARY KEY (root, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX root_lines_device ON root_lines (root, device);

-- Transactions of the hub's key. Each is here, signed, before anybody else sees it: after a crash the same is sent again,
-- never another one. Several of one nonce offer more and more for gas; the chain takes one.
CREATE TABLE transactions (
    id      INTEGER PRIMARY KEY,
    root    INTEGER NOT NULL REFERENCES roots (id),
    nonce   INTEGER NOT NULL,
    hash    BLOB NOT NULL UNIQUE,
    raw     BLOB NOT NULL,
    -- Per unit of gas, in units of 10^-18 ether.
    fee     BLOB NOT NULL,
    made_ms INTEGER NOT NULL,
    state   TEXT NOT NULL
) STRICT;
CREATE INDEX transactions_open ON transactions (nonce) WHERE state = 'open';
