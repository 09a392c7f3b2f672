-- Rules over what is measured. app_id: nothing for the machine.
-- for_ms: how long a rule has to be broken, or kept again, before that is told.
-- raised_at_ms: since when it is told to be broken.
CREATE TABLE alerts (
    id            TEXT PRIMARY KEY,
    app_id        TEXT REFERENCES apps (id) ON DELETE CASCADE,
    measure       TEXT NOT NULL,
    comparison    TEXT NOT NULL,
    value         REAL NOT NULL,
    for_ms        INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    raised_at_ms  INTEGER
) STRICT;
CREATE INDEX alerts_by_app ON alerts (app_id);
