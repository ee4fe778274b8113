-- Credit at BOINC projects that was counted, paid or not: what comes after it is new. Credit is 16 big-endian bytes, in
-- millionths (NUMERIC(39,0) in PostgreSQL).
CREATE TABLE boinc_users (
    project TEXT NOT NULL,
    id      INTEGER NOT NULL,
    credit  BLOB NOT NULL,
    PRIMARY KEY (project, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE boinc_hosts (
    project   TEXT NOT NULL,
    id        INTEGER NOT NULL,
    -- When the project first saw it, in seconds since 1970: with its number it tells one project from another.
    created_s INTEGER NOT NULL,
    credit    BLOB NOT NULL,
    PRIMARY KEY (project, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE boinc_payments (
    id           INTEGER PRIMARY KEY,
    idempotency  TEXT NOT NULL UNIQUE,
    request_hash BLOB NOT NULL,
    project      TEXT NOT NULL,
    at_ms        INTEGER NOT NULL,
    -- `rate` or `pot`, and the amount.
    price        TEXT NOT NULL,
    price_amount BLOB NOT NULL,
    hosts        INTEGER NOT NULL,
    credit       BLOB NOT NULL,
    amount       BLOB NOT NULL,
    first_seen   INTEGER NOT NULL
) STRICT;
CREATE TABLE boinc_lines (
    payment INTEGER NOT NULL REFERENCES boinc_payments (id),
    host    INTEGER NOT NULL,
    owner   INTEGER NOT NULL,
    credit  BLOB NOT NULL,
    payee   BLOB,
    amount  BLOB NOT NULL,
    PRIMARY KEY (payment, host)
) STRICT, WITHOUT ROWID;
