-- Where lines of logs go besides. app_id: nothing for those of every app.
-- sealed: the address, which may hold credentials; shown: the same without them.
-- reach: which addresses it may connect to: 0 public ones, 1 private ones too, 2 every one.
CREATE TABLE drains (
    id            TEXT PRIMARY KEY,
    app_id        TEXT REFERENCES apps (id) ON DELETE CASCADE,
    shown         TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    sealed        BLOB NOT NULL,
    ca            TEXT,
    reach         INTEGER NOT NULL,
    processors    TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    sent          INTEGER NOT NULL DEFAULT 0,
    dropped       INTEGER NOT NULL DEFAULT 0,
    unprocessed   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX drains_by_app ON drains (app_id);

-- How far each log was sent. done: nothing follows.
CREATE TABLE drain_cursors (
    drain_id    TEXT NOT NULL REFERENCES drains (id) ON DELETE CASCADE,
    instance_id TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    seq         INTEGER NOT NULL,
    done        INTEGER NOT NULL,
    PRIMARY KEY (drain_id, instance_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX drain_cursors_by_instance ON drain_cursors (instance_id);
