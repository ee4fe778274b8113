-- What a device says of itself for people: the image that it is part of (a JSON object, NULL outside an image), whether
-- its traffic costs money, and its owner's labels (a JSON object; those of the operator are in `labels`).
ALTER TABLE devices ADD COLUMN system TEXT;
ALTER TABLE devices ADD COLUMN metered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN owner_labels TEXT NOT NULL DEFAULT '{}';
