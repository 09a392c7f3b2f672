//! The stream of what happened. Event stream, audit and extensions are cursors over it.

pub use berth_model::principal::Visible;
use berth_model::{AppId, AppName, Event, TeamId};
use serde_json::Value;
use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use crate::by::system;
use crate::row::{Columns, ids};
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

/// Which kinds of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindFilter {
    /// This one.
    Is(String),
    /// Those that begin so.
    Begins(String),
}

/// Which events; what is nothing asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter {
    /// Whose.
    pub visible: Visible,
    /// Of this team.
    pub team: Option<TeamId>,
    /// Of every app that ever had this name.
    pub app: Option<AppName>,
    /// Done under this name.
    pub actor: Option<String>,
    /// Of these kinds.
    pub kind: Option<KindFilter>,
    /// About the thing with this id.
    pub subject: Option<String>,
    /// Not before, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Before, Unix milliseconds.
    pub until_ms: Option<i64>,
    /// Not what the platform did by itself.
    pub callers_only: bool,
}

impl EventFilter {
    /// Everything that may be seen.
    pub fn all(visible: Visible) -> Self {
        Self {
            visible,
            team: None,
            app: None,
            actor: None,
            kind: None,
            subject: None,
            since_ms: None,
            until_ms: None,
            callers_only: false,
        }
    }
}

/// In which order, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// What comes after a position.
    OldestAfter(i64),
    /// What comes before a position; the newest of all without one.
    NewestBefore(Option<i64>),
}

/// Parameters 1 to 12 are those of [`bound`].
const WHERE: &str = "FROM events
    WHERE ($1 IS NULL OR team_id IN (SELECT value FROM json_each($1)))
      AND ($12 IS NULL OR app_id IN (SELECT value FROM json_each($12)))
      AND ($2 IS NULL OR team_id = $2)
      AND ($3 IS NULL OR app_id IN (SELECT app_id FROM events WHERE app_name = $3))
      AND ($4 IS NULL OR actor = $4) AND ($5 IS NULL OR kind = $5)
      AND ($6 IS NULL OR substr(kind, 1, length($6)) = $6)
      AND ($7 IS NULL OR subject = $7) AND ($8 IS NULL OR at_ms >= $8)
      AND ($9 IS NULL OR at_ms < $9)
      AND ($10 = 0 OR NOT (actor = 'system' AND coalesce(principal_id, $11) = $11))";

type Bound<'q> = Query<'q, Sqlite, SqliteArguments<'q>>;

fn bound<'q>(query: Bound<'q>, filter: &EventFilter) -> Bound<'q> {
    let (is, begins) = match filter.kind.clone() {
        None => (None, None),
        Some(KindFilter::Is(kind)) => (Some(kind), None),
        Some(KindFilter::Begins(kind)) => (None, Some(kind)),
    };
    query
        .bind(filter.visible.teams().map(ids))
        .bind(filter.team.map(|team| team.to_string()))
        .bind(filter.app.as_ref().map(ToString::to_string))
        .bind(filter.actor.clone())
        .bind(is)
        .bind(begins)
        .bind(filter.subject.clone())
        .bind(filter.since_ms)
        .bind(filter.until_ms)
        .bind(filter.callers_only)
        .bind(system().to_string())
        .bind(filter.visible.apps().map(ids))
}

impl Store {
    /// At most `limit` events, in their order.
    ///
    /// # Errors
    /// What the database says.
    pub async fn events(
        &self,
        filter: &EventFilter,
        order: Order,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let (edge, position) = match order {
            Order::OldestAfter(after) => ("seq > $13 ORDER BY seq", after),
            Order::NewestBefore(before) => {
                ("seq < $13 ORDER BY seq DESC", before.unwrap_or(i64::MAX))
            }
        };
        let text = format!("SELECT * {WHERE} AND {edge} LIMIT $14");
        let rows = bound(sqlx::query(&text), filter)
            .bind(position)
            .bind(i64::from(limit))
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(|row| event(&Columns(row))).collect()
    }

    /// Whether an app of this name is in the events that may be seen, also one that is gone.
    ///
    /// # Errors
    /// What the database says.
    pub async fn app_was(&self, visible: &Visible, name: &AppName) -> Result<bool, StoreError> {
        let found = sqlx::query(
            "SELECT 1 FROM events WHERE app_name = $1
               AND ($2 IS NULL OR team_id IN (SELECT value FROM json_each($2)))
               AND ($3 IS NULL OR app_id IN (SELECT value FROM json_each($3))) LIMIT 1",
        )
        .bind(name.as_str())
        .bind(visible.teams().map(ids))
        .bind(visible.apps().map(ids))
        .fetch_optional(self.readers())
        .await?;
        Ok(found.is_some())
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
