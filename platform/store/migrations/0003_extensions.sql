-- An installed extension: what runs, what it was granted, and for which apps.
CREATE TABLE extensions (
    id              TEXT PRIMARY KEY,
    kind            TEXT NOT NULL,
    component       TEXT NOT NULL,
    manifest        TEXT NOT NULL,
    -- What was reviewed and what of it was granted.
    given           TEXT NOT NULL,
    config          TEXT NOT NULL,
    -- Ids of the apps that it is for; nothing means all of them.
    apps            TEXT,
    state           TEXT NOT NULL CHECK (state IN ('active', 'disabled', 'quarantined', 'waiting')),
    -- Another version, which asks for more than was granted.
    waiting         TEXT,
    -- The newest event that a hook was asked about.
    seen            INTEGER NOT NULL,
    installed_at_ms INTEGER NOT NULL,
    changed_at_ms   INTEGER NOT NULL
) STRICT;

-- Who granted what, when, to which component.
CREATE TABLE extension_grants (
    extension_id TEXT NOT NULL REFERENCES extensions (id) ON DELETE CASCADE,
    at_ms        INTEGER NOT NULL,
    actor        TEXT NOT NULL,
    component    TEXT NOT NULL,
    given        TEXT NOT NULL
) STRICT;
CREATE INDEX extension_grants_by_extension ON extension_grants (extension_id, at_ms);

CREATE TABLE extension_secrets (
    extension_id  TEXT NOT NULL REFERENCES extensions (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    sealed        BLOB NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    PRIMARY KEY (extension_id, name)
) STRICT;

-- Values that extensions keep.
CREATE TABLE extension_values (
    extension_id  TEXT NOT NULL REFERENCES extensions (id) ON DELETE CASCADE,
    key           TEXT NOT NULL,
    value         BLOB NOT NULL,
    expires_at_ms INTEGER,
    PRIMARY KEY (extension_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX extension_values_by_expiry ON extension_values (expires_at_ms)
    WHERE expires_at_ms IS NOT NULL;

-- Events that a hook has not taken yet, or never will.
CREATE TABLE deliveries (
    extension_id TEXT NOT NULL REFERENCES extensions (id) ON DELETE CASCADE,
    event_seq    INTEGER NOT NULL,
    -- Events of one subject are delivered in their order.
    subject      TEXT NOT NULL,
    attempts     INTEGER NOT NULL,
    next_at_ms   INTEGER NOT NULL,
    dead         INTEGER NOT NULL,
    error        TEXT,
    PRIMARY KEY (extension_id, event_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE extension_log (
    extension_id TEXT NOT NULL REFERENCES extensions (id) ON DELETE CASCADE,
    seq          INTEGER NOT NULL,
    at_ms        INTEGER NOT NULL,
    level        TEXT NOT NULL,
    line         TEXT NOT NULL,
    PRIMARY KEY (extension_id, seq)
) STRICT, WITHOUT ROWID;
