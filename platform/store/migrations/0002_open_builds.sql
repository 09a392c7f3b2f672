-- ref_name: the ref that moves to the commit when its release answers; none when nobody pushed.
-- deployment_id: what became of the image.
-- open: lines may still come, and the ref may still have to move.
ALTER TABLE builds ADD COLUMN ref_name TEXT;
ALTER TABLE builds ADD COLUMN deployment_id TEXT;
ALTER TABLE builds ADD COLUMN open INTEGER NOT NULL DEFAULT 0;
CREATE INDEX builds_open ON builds (open) WHERE open = 1;

-- The event of the change that the request made: its answer can be made again from it.
ALTER TABLE idempotency ADD COLUMN event_seq INTEGER;
