-- What an add-on's backup command wrote: a blob. It goes with its add-on.
CREATE TABLE addon_backups (
    id            TEXT PRIMARY KEY,
    app_id        TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    extension     TEXT NOT NULL,
    digest        TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX addon_backups_by_app ON addon_backups (app_id, id);
