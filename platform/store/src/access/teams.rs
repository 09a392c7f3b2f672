//! Teams, and the rows that every platform begins with.

use berth_model::principal::Visible;
use berth_model::{PrincipalId, TeamId, TeamName};
use serde_json::{Value, json};

use super::users;
use crate::by::system;
use crate::events::NewEvent;
use crate::row::{Columns, ids};
use crate::store::{id_time, random};
use crate::{By, Store, StoreError};

/// A team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Its id.
    pub id: TeamId,
    /// Its name.
    pub name: TeamName,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// The team that is there from the start.
pub(super) fn default_team() -> TeamId {
    TeamId::new(0, [0; 10])
}

fn team(row: &Columns<'_>) -> Result<Team, StoreError> {
    Ok(Team {
        id: row.parsed("id")?,
        name: row.parsed("name")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

impl Store {
    /// The team `default` and the platform's own principal.
    pub(crate) async fn first_rows(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO teams (id, name, created_at_ms) VALUES ($1, 'default', 0)
             ON CONFLICT DO NOTHING",
        )
        .bind(default_team().to_string())
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO principals (id, kind, name, created_at_ms) VALUES ($1, 'system', 'system', 0)
             ON CONFLICT DO NOTHING",
        )
        .bind(system().to_string())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// The team `default`.
    pub fn default_team(&self) -> TeamId {
        default_team()
    }

    /// At most `limit` teams in the order of their names, after a name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn teams(
        &self,
        visible: impl Into<Visible>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Team>, StoreError> {
        let visible = visible.into();
        let rows = sqlx::query(
            "SELECT * FROM teams
             WHERE name > $1 AND ($2 IS NULL OR id IN (SELECT value FROM json_each($2)))
             ORDER BY name LIMIT $3",
        )
        .bind(after.unwrap_or_default())
        .bind(visible.teams().map(ids))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| team(&Columns(row))).collect()
    }

    /// A team by its id.
    ///
    /// # Errors
    /// What the database says.
    pub async fn team(&self, id: TeamId) -> Result<Option<Team>, StoreError> {
        let row = sqlx::query("SELECT * FROM teams WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| team(&Columns(&row))).transpose()
    }

    /// A team by its name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn team_by_name(&self, name: &TeamName) -> Result<Option<Team>, StoreError> {
        let row = sqlx::query("SELECT * FROM teams WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| team(&Columns(&row))).transpose()
    }

    /// A new team.
    ///
    /// # Errors
    /// `Exists`, and what the database says.
    pub async fn create_team(&self, name: &TeamName, by: &By) -> Result<Team, StoreError> {
        let team = Team {
            id: TeamId::new(id_time(by.at_ms), random()?),
            name: name.clone(),
            created_at_ms: by.at_ms,
        };
        let mut write = self.write(by).await?;
        sqlx::query("INSERT INTO teams (id, name, created_at_ms) VALUES ($1, $2, $3)")
            .bind(team.id.to_string())
            .bind(name.as_str())
            .bind(by.at_ms)
            .execute(write.db())
            .await
            .map_err(|error| StoreError::from(error).exists("team", name.as_str()))?;
        let event = NewEvent {
            kind: "team.created",
            subject: team.id.to_string(),
            app: None,
            team: Some(team.id),
            before: Value::Null,
            after: json!({"name": name}),
        };
        write.finish(event).await?;
        Ok(team)
    }

    /// Removes a team that has nothing any more, and with it the roles of users there.
    ///
    /// # Errors
    /// `TeamStays`, `LastAdministrator`, and what the database says.
    pub async fn remove_team(&self, team: &Team, by: &By) -> Result<(), StoreError> {
        let stays = |why| StoreError::TeamStays { name: team.name.to_string(), why };
        if team.id == default_team() {
            return Err(stays("is there from the start, and stays"));
        }
        let mut write = self.write(by).await?;
        for (what, why) in [
            ("apps", "has apps, or what is left of some for a moment; destroy them first"),
            ("tokens", "has tokens; revoke them first"),
            ("keys", "has keys; remove them first"),
        ] {
            let found = sqlx::query(&format!("SELECT 1 FROM {what} WHERE team_id = $1 LIMIT 1"))
                .bind(team.id.to_string())
                .fetch_optional(write.db())
                .await?;
            if found.is_some() {
                return Err(stays(why));
            }
        }
        let were = users::administrators(write.db()).await?;
        sqlx::query("DELETE FROM teams WHERE id = $1")
            .bind(team.id.to_string())
            .execute(write.db())
            .await?;
        users::keep_an_administrator(write.db(), were, "somebody of this team").await?;
        let event = NewEvent {
            kind: "team.removed",
            subject: team.id.to_string(),
            app: None,
            team: Some(team.id),
            before: json!({"name": team.name}),
            after: Value::Null,
        };
        write.finish(event).await.map(drop)
    }

    /// Names of principals, for showing who made what. Unknown ids are left out.
    ///
    /// # Errors
    /// What the database says.
    pub async fn principal_name(&self, id: PrincipalId) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT name FROM principals WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| Columns(&row).text("name")).transpose()
    }
}
