-- A buildpack that an operator added; those that ship with Berth have no row.
CREATE TABLE buildpacks (
    id            TEXT PRIMARY KEY,
    component     TEXT NOT NULL,
    manifest      TEXT NOT NULL,
    added_at_ms   INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL
) STRICT;

-- The groups that an operator set, in their order; without any, the usual ones are tried.
CREATE TABLE buildpack_order (
    place   INTEGER PRIMARY KEY,
    members TEXT NOT NULL
) STRICT;
