-- made: an instance ran with it, so its disk exists. removed_at_ms: nobody sees it any more; the row
-- goes when its disk is gone.
CREATE TABLE volumes (
    id            TEXT PRIMARY KEY,
    app_id        TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    process       TEXT NOT NULL,
    path          TEXT NOT NULL,
    size_mib      INTEGER NOT NULL,
    made          INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    removed_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX volumes_by_name ON volumes (app_id, name) WHERE removed_at_ms IS NULL;
