-- Work that costs nothing is in no voucher, ever: without it the index holds only what waits for one.
DROP INDEX assignments_uncovered;
CREATE INDEX assignments_uncovered ON assignments (device, judged_ms)
    WHERE judgement = 'accepted' AND voucher IS NULL AND owed != zeroblob(16);
