-- Values that Wasm apps keep.
CREATE TABLE app_values (
    app_id        TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    key           TEXT NOT NULL,
    value         BLOB NOT NULL,
    expires_at_ms INTEGER,
    PRIMARY KEY (app_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX app_values_by_expiry ON app_values (expires_at_ms)
    WHERE expires_at_ms IS NOT NULL;
