-- Whose results can be compared: the image's repository, or the manifest of one that was uploaded. '' for jobs of
-- before, which say nothing about any class.
ALTER TABLE jobs ADD COLUMN image_class TEXT NOT NULL DEFAULT '';

-- How a device has done with one class of images.
CREATE TABLE reputations (
    device      BLOB NOT NULL REFERENCES devices (address),
    class       TEXT NOT NULL,
    valid       INTEGER NOT NULL DEFAULT 0,
    invalid     INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    consecutive INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device, class)
) STRICT, WITHOUT ROWID;

-- What a device is willing to be owed without a voucher; NULL for one that has not said.
ALTER TABLE devices ADD COLUMN exposure_limit BLOB;

-- A task whose buyer asked for one result, and of which the hub wants a second to check a device: whether it still
-- does, and the day whose budget pays for it.
ALTER TABLE tasks ADD COLUMN check_state TEXT;
ALTER TABLE tasks ADD COLUMN check_day INTEGER;

-- Receipts that devices have shown after a restoration, and that these books do not know.
CREATE TABLE claims (
    device      BLOB NOT NULL REFERENCES devices (address),
    assignment  BLOB NOT NULL,
    task        BLOB NOT NULL,
    digest      BLOB NOT NULL,
    price       BLOB NOT NULL,
    owed        BLOB NOT NULL,
    proven      INTEGER NOT NULL,
    explanation TEXT NOT NULL,
    shown_ms    INTEGER NOT NULL,
    voucher     BLOB,
    PRIMARY KEY (device, assignment)
) STRICT, WITHOUT ROWID;
