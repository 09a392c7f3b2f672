-- A table that others point to is made anew: its rows are back when the transaction ends.
PRAGMA defer_foreign_keys = ON;
CREATE TABLE principals_before AS SELECT * FROM principals;
DROP TABLE principals;
CREATE TABLE principals (
    id            TEXT PRIMARY KEY,
    kind          TEXT NOT NULL CHECK (kind IN ('system', 'token', 'key', 'user')),
    name          TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO principals SELECT * FROM principals_before;
DROP TABLE principals_before;

-- password: in the PHC string format; nothing until one is chosen.
CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    principal_id  TEXT NOT NULL UNIQUE REFERENCES principals (id),
    name          TEXT NOT NULL UNIQUE,
    state         TEXT NOT NULL CHECK (state IN ('active', 'disabled')),
    password      TEXT,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE memberships (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    role    TEXT NOT NULL,
    PRIMARY KEY (user_id, team_id)
) STRICT, WITHOUT ROWID;

-- sets_password: the session of a link may choose one password without knowing the one before.
CREATE TABLE sessions (
    id            TEXT PRIMARY KEY,
    user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash          TEXT NOT NULL UNIQUE,
    sets_password INTEGER NOT NULL,
    source_ip     TEXT,
    agent         TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    seen_at_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_id, id);

-- One link of a user is good at a time.
CREATE TABLE sign_in_links (
    user_id       TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    hash          TEXT NOT NULL UNIQUE,
    expires_at_ms INTEGER NOT NULL
) STRICT;

-- Of a user or of a team. apps: JSON, the ids of the only apps it is good for.
CREATE TABLE tokens_after (
    id            TEXT PRIMARY KEY,
    principal_id  TEXT NOT NULL REFERENCES principals (id),
    team_id       TEXT REFERENCES teams (id),
    user_id       TEXT REFERENCES users (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    role          TEXT NOT NULL,
    scope         TEXT NOT NULL DEFAULT 'all',
    apps          TEXT,
    hash          TEXT NOT NULL UNIQUE,
    expires_at_ms INTEGER,
    created_at_ms INTEGER NOT NULL,
    CHECK ((team_id IS NULL) <> (user_id IS NULL)),
    UNIQUE (team_id, name),
    UNIQUE (user_id, name)
) STRICT;
INSERT INTO tokens_after
    (id, principal_id, team_id, name, role, hash, expires_at_ms, created_at_ms)
SELECT id, principal_id, team_id, name, role, hash, expires_at_ms, created_at_ms FROM tokens;
DROP TABLE tokens;
ALTER TABLE tokens_after RENAME TO tokens;

CREATE TABLE keys_after (
    id            TEXT PRIMARY KEY,
    principal_id  TEXT NOT NULL REFERENCES principals (id),
    team_id       TEXT REFERENCES teams (id),
    user_id       TEXT REFERENCES users (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    role          TEXT NOT NULL,
    fingerprint   TEXT NOT NULL UNIQUE,
    public_key    TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    CHECK ((team_id IS NULL) <> (user_id IS NULL)),
    UNIQUE (team_id, name),
    UNIQUE (user_id, name)
) STRICT;
INSERT INTO keys_after
    (id, principal_id, team_id, name, role, fingerprint, public_key, created_at_ms)
SELECT id, principal_id, team_id, name, role, fingerprint, public_key, created_at_ms FROM keys;
DROP TABLE keys;
ALTER TABLE keys_after RENAME TO keys;
