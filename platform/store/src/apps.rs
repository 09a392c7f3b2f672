//! Apps. What changes them goes through plans (`changes`).

use berth_model::principal::Visible;
use berth_model::{App, AppId, AppName, TeamId};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::events::NewEvent;
use crate::row::{Columns, ids};
use crate::{By, Store, StoreError};

pub(crate) fn app(row: &Columns<'_>) -> Result<App, StoreError> {
    Ok(App {
        id: row.parsed("id")?,
        name: row.parsed("name")?,
        team: row.parsed("team_id")?,
        block: row.number("block")?,
        settings: row.json("settings")?,
        current_release: row.opt_parsed("current_release_id")?,
        generation: row.number("generation")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

/// An app that is not destroyed.
pub(crate) async fn existing(
    db: &mut SqliteConnection,
    id: AppId,
) -> Result<Option<App>, StoreError> {
    let row = sqlx::query("SELECT * FROM apps WHERE id = $1 AND destroyed_at_ms IS NULL")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| app(&Columns(&row))).transpose()
}

/// The team of an app, destroyed or not, for events.
pub(crate) async fn team_of(
    db: &mut SqliteConnection,
    id: AppId,
) -> Result<Option<TeamId>, StoreError> {
    let row = sqlx::query("SELECT team_id FROM apps WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| Columns(&row).parsed("team_id")).transpose()
}

pub(crate) fn missing(id: AppId) -> StoreError {
    StoreError::Missing { what: "app", name: id.to_string() }
}

impl Store {
    /// An app by its id; nothing when it was destroyed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn app(&self, id: AppId) -> Result<Option<App>, StoreError> {
        let mut tx = self.read().await?;
        existing(&mut tx, id).await
    }

    /// An app by its name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn app_by_name(&self, name: &AppName) -> Result<Option<App>, StoreError> {
        let row = sqlx::query("SELECT * FROM apps WHERE name = $1 AND destroyed_at_ms IS NULL")
            .bind(name.as_str())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| app(&Columns(&row))).transpose()
    }

    /// At most `limit` apps that people push to, in the order of their names, after a name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn apps(
        &self,
        visible: impl Into<Visible>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<App>, StoreError> {
        self.listed(&visible.into(), after, limit, false).await
    }

    /// As `apps`, but add-ons.
    ///
    /// # Errors
    /// What the database says.
    pub async fn addons(
        &self,
        visible: impl Into<Visible>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<App>, StoreError> {
        self.listed(&visible.into(), after, limit, true).await
    }

    async fn listed(
        &self,
        visible: &Visible,
        after: Option<&str>,
        limit: u32,
        addons: bool,
    ) -> Result<Vec<App>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM apps
             WHERE destroyed_at_ms IS NULL AND name > $1
               AND ($2 IS NULL OR team_id IN (SELECT value FROM json_each($2)))
               AND ($5 IS NULL OR id IN (SELECT value FROM json_each($5)))
               AND (json_extract(settings, '$.addon') IS NOT NULL) = $4
             ORDER BY name LIMIT $3",
        )
        .bind(after.unwrap_or_default())
        .bind(visible.teams().map(ids))
        .bind(i64::from(limit))
        .bind(addons)
        .bind(visible.apps().map(ids))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| app(&Columns(row))).collect()
    }

    /// Rows of a table whose `app_id` names an app or nothing, newest ids first: what a caller may
    /// see of them. What is of no app is for who sees everything.
    pub(crate) async fn rows_of_apps(
        &self,
        table: &'static str,
        visible: &Visible,
        app: Option<AppId>,
        before: Option<String>,
        limit: u32,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let query = format!(
            "SELECT rows.* FROM {table} rows LEFT JOIN apps ON apps.id = rows.app_id
             WHERE ($1 IS NULL OR apps.team_id IN (SELECT value FROM json_each($1)))
               AND ($2 IS NULL OR apps.id IN (SELECT value FROM json_each($2)))
               AND ($3 IS NULL OR rows.app_id = $3)
               AND ($4 IS NULL OR rows.id < $4) AND apps.destroyed_at_ms IS NULL
             ORDER BY rows.id DESC LIMIT $5"
        );
        Ok(sqlx::query(&query)
            .bind(visible.teams().map(ids))
            .bind(visible.apps().map(ids))
            .bind(app.map(|app| app.to_string()))
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(self.readers())
            .await?)
    }

    /// Every app that is not destroyed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn app_ids(&self) -> Result<Vec<AppId>, StoreError> {
        let rows = sqlx::query("SELECT id FROM apps WHERE destroyed_at_ms IS NULL ORDER BY id")
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(|row| Columns(row).parsed("id")).collect()
    }

    /// Apps that were destroyed, and of which something may be left on the machine.
    ///
    /// # Errors
    /// What the database says.
    pub async fn destroyed_apps(&self) -> Result<Vec<App>, StoreError> {
        let rows = sqlx::query("SELECT * FROM apps WHERE destroyed_at_ms IS NOT NULL ORDER BY id")
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(|row| app(&Columns(row))).collect()
    }

    /// Forgets a destroyed app, when nothing of it is left on the machine: its rows go, its block
    /// of user ids is free. An app that is not there is fine.
    ///
    /// # Errors
    /// What the database says; an app that was not destroyed is left alone.
    pub async fn erase_app(&self, id: AppId, by: &By) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let team = team_of(write.db(), id).await?;
        let gone = sqlx::query("DELETE FROM apps WHERE id = $1 AND destroyed_at_ms IS NOT NULL")
            .bind(id.to_string())
            .execute(write.db())
            .await?;
        if gone.rows_affected() == 0 {
            return Ok(());
        }
        let event = NewEvent {
            kind: "app.erased",
            subject: id.to_string(),
            app: Some(id),
            team,
            before: json!({}),
            after: Value::Null,
        };
        write.finish(event).await.map(drop)
    }
}
