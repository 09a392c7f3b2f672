//! The stream of what happened. Event stream, audit and extensions are cursors over it.

use berth_model::{AppId, Event, TeamId};
use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use crate::row::Columns;
use crate::store::random;
use crate::{By, Store, StoreError};

/// Version of the shape of `before` and `after`.
const SCHEMA: u32 = 1;

/// An event to be written with its change.
pub(crate) struct NewEvent<'a> {
    pub(crate) kind: &'a str,
    pub(crate) subject: String,
    pub(crate) app: Option<AppId>,
    /// Who may see it; nothing means administrators only.
    pub(crate) team: Option<TeamId>,
    pub(crate) before: Value,
    pub(crate) after: Value,
}

impl NewEvent<'_> {
    pub(crate) async fn insert(
        self,
        db: &mut SqliteConnection,
        by: &By,
    ) -> Result<i64, StoreError> {
        let done = sqlx::query(
            r#"INSERT INTO events
                 (id, kind, schema, subject, app_id, team_id, actor, source_ip, at_ms, "before",
                  "after", principal_id, app_name)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                 coalesce((SELECT name FROM apps WHERE id = $5),
                          (SELECT app_name FROM events WHERE app_id = $5 ORDER BY seq DESC LIMIT 1)))"#,
        )
        .bind(format!("evt_{}", hex::encode(random()?)))
        .bind(self.kind)
        .bind(i64::from(SCHEMA))
        .bind(self.subject)
        .bind(self.app.map(|app| app.to_string()))
        .bind(self.team.map(|team| team.to_string()))
        .bind(&by.name)
        .bind(by.source_ip.map(|ip| ip.to_string()))
        .bind(by.at_ms)
        .bind(self.before.to_string())
        .bind(self.after.to_string())
        .bind(by.principal.to_string())
        .execute(db)
        .await?;
        Ok(done.last_insert_rowid())
    }
}

/// Whose events may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visible {
    /// Everything.
    All,
    /// Only what belongs to a team.
    Team(TeamId),
}

/// Which events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventFilter {
    /// Whose.
    pub visible: Visible,
    /// Only of this app.
    pub app: Option<AppId>,
}

impl Store {
    /// At most `limit` events after position `after`, oldest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn events(
        &self,
        filter: EventFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let team = match filter.visible {
            Visible::All => None,
            Visible::Team(team) => Some(team.to_string()),
        };
        let rows = sqlx::query(
            "SELECT * FROM events
             WHERE seq > $1 AND ($2 IS NULL OR team_id = $2) AND ($3 IS NULL OR app_id = $3)
             ORDER BY seq LIMIT $4",
        )
        .bind(after)
        .bind(team)
        .bind(filter.app.map(|app| app.to_string()))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| event(&Columns(row))).collect()
    }

    /// Position of the newest event; 0 when there is none.
    ///
    /// # Errors
    /// What the database says.
    pub async fn newest_event(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT coalesce(max(seq), 0) AS seq FROM events")
            .fetch_one(self.readers())
            .await?;
        Columns(&row).int("seq")
    }
}

pub(crate) fn event(row: &Columns<'_>) -> Result<Event, StoreError> {
    Ok(Event {
        seq: row.int("seq")?,
        kind: row.text("kind")?,
        schema: row.number("schema")?,
        subject: row.text("subject")?,
        app: row.opt_parsed("app_id")?,
        app_name: row.opt_text("app_name")?,
        actor: row.text("actor")?,
        principal: row.opt_parsed("principal_id")?,
        source_ip: row.opt_text("source_ip")?,
        at_ms: row.int("at_ms")?,
        before: row.json("before")?,
        after: row.json("after")?,
    })
}
