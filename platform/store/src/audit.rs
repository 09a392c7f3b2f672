//! Who did what to which thing, when and from where: questions to the events, and what was refused.

use berth_model::{AppId, AppName, Event, TeamId};
use serde_json::Value;
use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

use crate::by::{By, system};
use crate::events::{NewEvent, Visible, event};
use crate::row::Columns;
use crate::{Store, StoreError};

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
pub struct AuditFilter {
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

impl AuditFilter {
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

/// Somebody was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// `access.failed`, `access.denied`, `access.more`.
    pub kind: &'static str,
    /// Who, as far as that is known.
    pub by: By,
    /// Id of the thing, or `platform`.
    pub subject: String,
    /// The app that it was about.
    pub app: Option<AppId>,
    /// Who may see it; nothing means administrators only.
    pub team: Option<TeamId>,
    /// What was tried, without secrets.
    pub what: Value,
}

/// Parameters 1 to 11 are those of [`bound`].
const WHERE: &str = "FROM events
    WHERE ($1 IS NULL OR team_id = $1) AND ($2 IS NULL OR team_id = $2)
      AND ($3 IS NULL OR app_id IN (SELECT app_id FROM events WHERE app_name = $3))
      AND ($4 IS NULL OR actor = $4) AND ($5 IS NULL OR kind = $5)
      AND ($6 IS NULL OR substr(kind, 1, length($6)) = $6)
      AND ($7 IS NULL OR subject = $7) AND ($8 IS NULL OR at_ms >= $8)
      AND ($9 IS NULL OR at_ms < $9)
      AND ($10 = 0 OR NOT (actor = 'system' AND coalesce(principal_id, $11) = $11))";

type Bound<'q> = Query<'q, Sqlite, SqliteArguments<'q>>;

fn bound<'q>(query: Bound<'q>, filter: &AuditFilter) -> Bound<'q> {
    let visible = match filter.visible {
        Visible::All => None,
        Visible::Team(team) => Some(team.to_string()),
    };
    let (is, begins) = match filter.kind.clone() {
        None => (None, None),
        Some(KindFilter::Is(kind)) => (Some(kind), None),
        Some(KindFilter::Begins(kind)) => (None, Some(kind)),
    };
    query
        .bind(visible)
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
}

impl Store {
    /// At most `limit` events, in their order.
    ///
    /// # Errors
    /// What the database says.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        order: Order,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let (edge, position) = match order {
            Order::OldestAfter(after) => ("seq > $12 ORDER BY seq", after),
            Order::NewestBefore(before) => {
                ("seq < $12 ORDER BY seq DESC", before.unwrap_or(i64::MAX))
            }
        };
        let text = format!("SELECT * {WHERE} AND {edge} LIMIT $13");
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
    pub async fn app_was(&self, visible: Visible, name: &AppName) -> Result<bool, StoreError> {
        let team = match visible {
            Visible::All => None,
            Visible::Team(team) => Some(team.to_string()),
        };
        let found = sqlx::query(
            "SELECT 1 FROM events WHERE app_name = $1 AND ($2 IS NULL OR team_id = $2) LIMIT 1",
        )
        .bind(name.as_str())
        .bind(team)
        .fetch_optional(self.readers())
        .await?;
        Ok(found.is_some())
    }

    /// Writes that somebody was refused. How often that is done is up to the caller.
    ///
    /// # Errors
    /// What the database says.
    pub async fn refused(&self, refused: Refused) -> Result<i64, StoreError> {
        let Refused { kind, by, subject, app, team, what } = refused;
        let event = NewEvent { kind, subject, app, team, before: Value::Null, after: what };
        self.write(&by).await?.finish(event).await
    }
}
