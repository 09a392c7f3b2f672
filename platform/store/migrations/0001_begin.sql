-- Ids are TEXT, times INTEGER Unix milliseconds, structured values TEXT holding JSON.

-- Single values: counters, and the check that the encryption key is the right one.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE teams (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL
) STRICT;

-- Whoever ever acted; rows stay, so that releases and events keep their names.
CREATE TABLE principals (
    id            TEXT PRIMARY KEY,
    kind          TEXT NOT NULL CHECK (kind IN ('system', 'token', 'key')),
    name          TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id            TEXT PRIMARY KEY,
    principal_id  TEXT NOT NULL UNIQUE REFERENCES principals (id),
    team_id       TEXT NOT NULL REFERENCES teams (id),
    name          TEXT NOT NULL,
    role          TEXT NOT NULL,
    hash          TEXT NOT NULL UNIQUE,
    expires_at_ms INTEGER,
    created_at_ms INTEGER NOT NULL,
    UNIQUE (team_id, name)
) STRICT;

CREATE TABLE keys (
    id            TEXT PRIMARY KEY,
    principal_id  TEXT NOT NULL UNIQUE REFERENCES principals (id),
    team_id       TEXT NOT NULL REFERENCES teams (id),
    name          TEXT NOT NULL,
    role          TEXT NOT NULL,
    fingerprint   TEXT NOT NULL UNIQUE,
    public_key    TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    UNIQUE (team_id, name)
) STRICT;

-- A destroyed app keeps its row, and with it its block of user ids, until nothing of it is left on
-- the machine; its name is free at once.
CREATE TABLE apps (
    id                 TEXT PRIMARY KEY,
    name               TEXT NOT NULL,
    team_id            TEXT NOT NULL REFERENCES teams (id),
    block              INTEGER NOT NULL UNIQUE,
    settings           TEXT NOT NULL,
    config_version     INTEGER NOT NULL DEFAULT 0,
    current_release_id TEXT,
    generation         INTEGER NOT NULL,
    created_at_ms      INTEGER NOT NULL,
    destroyed_at_ms    INTEGER
) STRICT;
CREATE UNIQUE INDEX apps_by_name ON apps (name) WHERE destroyed_at_ms IS NULL;

CREATE TABLE domains (
    id            TEXT PRIMARY KEY,
    app_id        TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name          TEXT NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX domains_by_app ON domains (app_id);

CREATE TABLE config_versions (
    app_id        TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    version       INTEGER NOT NULL,
    actor         TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (app_id, version)
) STRICT;

-- A version holds every variable of it, each sealed for its place.
CREATE TABLE config_values (
    app_id  TEXT NOT NULL,
    version INTEGER NOT NULL,
    name    TEXT NOT NULL,
    key_id  TEXT NOT NULL,
    sealed  BLOB NOT NULL,
    PRIMARY KEY (app_id, version, name),
    FOREIGN KEY (app_id, version) REFERENCES config_versions (app_id, version) ON DELETE CASCADE
) STRICT;

CREATE TRIGGER config_versions_are_immutable BEFORE UPDATE ON config_versions
BEGIN SELECT RAISE(ABORT, 'a configuration version is immutable'); END;
CREATE TRIGGER config_values_are_immutable BEFORE UPDATE ON config_values
BEGIN SELECT RAISE(ABORT, 'a configuration version is immutable'); END;

CREATE TABLE images (
    digest        TEXT PRIMARY KEY,
    layers        TEXT NOT NULL,
    env           TEXT NOT NULL,
    manifest      TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE builds (
    id             TEXT PRIMARY KEY,
    app_id         TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    commit_id      TEXT NOT NULL,
    source         TEXT NOT NULL,
    state          TEXT NOT NULL,
    image          TEXT,
    error          TEXT,
    created_at_ms  INTEGER NOT NULL,
    finished_at_ms INTEGER
) STRICT;
CREATE INDEX builds_by_app ON builds (app_id, id);
CREATE INDEX builds_running ON builds (state) WHERE state = 'running';

CREATE TABLE build_log (
    build_id TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    seq      INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    line     TEXT NOT NULL,
    PRIMARY KEY (build_id, seq)
) STRICT, WITHOUT ROWID;

-- What the next build of an app may start from.
CREATE TABLE app_layers (
    app_id   TEXT PRIMARY KEY REFERENCES apps (id) ON DELETE CASCADE,
    metadata TEXT NOT NULL
) STRICT;

-- Builds whose every input was seen before.
CREATE TABLE build_memo (
    app_id        TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    key           TEXT NOT NULL,
    image         TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (app_id, key)
) STRICT;

CREATE TABLE releases (
    id             TEXT PRIMARY KEY,
    app_id         TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    number         INTEGER NOT NULL,
    image          TEXT NOT NULL,
    manifest       TEXT NOT NULL,
    config_version INTEGER NOT NULL,
    commit_id      TEXT NOT NULL,
    reason         TEXT NOT NULL,
    actor_id       TEXT NOT NULL REFERENCES principals (id),
    created_at_ms  INTEGER NOT NULL,
    UNIQUE (app_id, number)
) STRICT;
CREATE TRIGGER releases_are_immutable BEFORE UPDATE ON releases
BEGIN SELECT RAISE(ABORT, 'a release is immutable'); END;

-- number: the order in which they were queued, whatever the clock did.
CREATE TABLE deployments (
    id             TEXT PRIMARY KEY,
    app_id         TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    number         INTEGER NOT NULL,
    release_id     TEXT NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    state          TEXT NOT NULL,
    rollback       INTEGER NOT NULL,
    previous_id    TEXT,
    error          TEXT,
    created_at_ms  INTEGER NOT NULL,
    changed_at_ms  INTEGER NOT NULL,
    finished_at_ms INTEGER,
    UNIQUE (app_id, number)
) STRICT;
CREATE INDEX deployments_by_release ON deployments (release_id, number);
CREATE INDEX deployments_unfinished ON deployments (app_id) WHERE finished_at_ms IS NULL;

CREATE TABLE instances (
    id             TEXT PRIMARY KEY,
    app_id         TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    release_id     TEXT NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    deployment_id  TEXT,
    process        TEXT NOT NULL,
    slot           INTEGER NOT NULL,
    role           TEXT NOT NULL,
    restarts       INTEGER NOT NULL,
    state          TEXT NOT NULL,
    address        TEXT,
    answering      INTEGER,
    exit_code      INTEGER,
    error          TEXT,
    created_at_ms  INTEGER NOT NULL,
    ready_at_ms    INTEGER,
    draining_at_ms INTEGER,
    stopped_at_ms  INTEGER
) STRICT;
CREATE INDEX instances_by_app ON instances (app_id, id);
CREATE INDEX instances_by_deployment ON instances (deployment_id);
CREATE INDEX instances_alive ON instances (app_id)
    WHERE stopped_at_ms IS NULL OR address IS NOT NULL;

CREATE TABLE stacks (
    name          TEXT PRIMARY KEY,
    run           TEXT NOT NULL,
    build         TEXT NOT NULL,
    packages      TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE idempotency (
    principal_id  TEXT NOT NULL,
    key           TEXT NOT NULL,
    request_hash  TEXT NOT NULL,
    status        INTEGER,
    location      TEXT,
    body          TEXT,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (principal_id, key)
) STRICT;

-- app_id and team_id say who may see the row; without a team only administrators may.
CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    schema     INTEGER NOT NULL,
    subject    TEXT NOT NULL,
    app_id     TEXT,
    team_id    TEXT,
    actor      TEXT NOT NULL,
    source_ip  TEXT,
    at_ms      INTEGER NOT NULL,
    "before"   TEXT NOT NULL,
    "after"    TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_app ON events (app_id, seq);
CREATE INDEX events_by_team ON events (team_id, seq);
