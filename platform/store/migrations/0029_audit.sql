-- principal_id: who did it, beyond doubt, for two may have one name; nothing for who is not known.
-- app_name: what the app was called then.
ALTER TABLE events ADD COLUMN principal_id TEXT;
ALTER TABLE events ADD COLUMN app_name TEXT;
UPDATE events SET app_name = (SELECT name FROM apps WHERE apps.id = events.app_id)
WHERE app_id IS NOT NULL;
CREATE INDEX events_by_app_name ON events (app_name, app_id) WHERE app_name IS NOT NULL;
