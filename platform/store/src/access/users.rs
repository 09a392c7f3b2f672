//! Users: people, with a role in each of their teams.

use std::collections::BTreeMap;

use berth_model::{PrincipalId, Role, TeamId, UserId, UserName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use super::insert_principal;
use crate::events::NewEvent;
use crate::row::Columns;
use crate::store::{id_time, random};
use crate::{By, Store, StoreError};

/// Whether a user may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserState {
    /// Yes.
    Active,
    /// No; nothing that is theirs does.
    Disabled,
}

impl UserState {
    /// The text form used in the database, the API and the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }
}

/// A user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// Who acts.
    pub principal: PrincipalId,
    /// The name.
    pub name: UserName,
    /// Whether the user may act.
    pub state: UserState,
    /// The hash of the password in the PHC string format, where one was chosen.
    pub password: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("state", &self.state).finish()
    }
}

/// A user to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// The name.
    pub name: UserName,
    /// The first role, and where it holds.
    pub role: Option<(TeamId, Role)>,
}

/// A role in a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The team.
    pub team: TeamId,
    /// The role there.
    pub role: Role,
}

fn user(row: &Columns<'_>) -> Result<User, StoreError> {
    Ok(User {
        id: row.parsed("id")?,
        principal: row.parsed("principal_id")?,
        name: row.parsed("name")?,
        state: row.word("state")?,
        password: row.opt_text("password")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

pub(super) async fn by_id(db: &mut SqliteConnection, id: UserId) -> Result<User, StoreError> {
    let row = sqlx::query("SELECT * FROM users WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    match row {
        Some(row) => user(&Columns(&row)),
        None => Err(StoreError::Missing { what: "user", name: id.to_string() }),
    }
}

pub(super) async fn roles(
    db: &mut SqliteConnection,
    id: UserId,
) -> Result<BTreeMap<TeamId, Role>, StoreError> {
    let rows = sqlx::query("SELECT team_id, role FROM memberships WHERE user_id = $1")
        .bind(id.to_string())
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| {
            let row = Columns(row);
            Ok((row.parsed("team_id")?, row.parsed("role")?))
        })
        .collect()
}

/// Refuses what left no administrator among the users who may act.
pub(super) async fn keep_an_administrator(
    db: &mut SqliteConnection,
    were: i64,
    name: &str,
) -> Result<(), StoreError> {
    if were > 0 && administrators(db).await? == 0 {
        return Err(StoreError::LastAdministrator(name.to_owned()));
    }
    Ok(())
}

pub(super) async fn administrators(db: &mut SqliteConnection) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "SELECT count(DISTINCT users.id) AS number FROM users
         JOIN memberships ON memberships.user_id = users.id
         WHERE users.state = 'active' AND memberships.role = 'admin'",
    )
    .fetch_one(db)
    .await?;
    Columns(&row).int("number")
}

async fn put_role(
    db: &mut SqliteConnection,
    user: UserId,
    team: TeamId,
    role: Role,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO memberships (user_id, team_id, role) VALUES ($1, $2, $3)
         ON CONFLICT (user_id, team_id) DO UPDATE SET role = excluded.role",
    )
    .bind(user.to_string())
    .bind(team.to_string())
    .bind(role.as_str())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) fn event(
    kind: &'static str,
    user: &User,
    before: Value,
    after: Value,
) -> NewEvent<'static> {
    NewEvent { kind, subject: user.id.to_string(), app: None, team: None, before, after }
}

fn shown(user: &User) -> Value {
    json!({ "name": user.name, "state": user.state })
}

impl Store {
    /// Makes a user, who has no password yet.
    ///
    /// # Errors
    /// `Exists`, and what the database says.
    pub async fn create_user(&self, new: &NewUser, by: &By) -> Result<User, StoreError> {
        let user = User {
            id: UserId::new(id_time(by.at_ms), random()?),
            principal: PrincipalId::new(id_time(by.at_ms), random()?),
            name: new.name.clone(),
            state: UserState::Active,
            password: None,
            created_at_ms: by.at_ms,
        };
        let mut write = self.write(by).await?;
        insert_principal(write.db(), user.principal, "user", user.name.as_str(), by.at_ms).await?;
        sqlx::query(
            "INSERT INTO users (id, principal_id, name, state, created_at_ms)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(user.id.to_string())
        .bind(user.principal.to_string())
        .bind(user.name.as_str())
        .bind(user.state.as_str())
        .bind(user.created_at_ms)
        .execute(write.db())
        .await
        .map_err(|error| StoreError::from(error).exists("user", user.name.as_str()))?;
        if let Some((team, role)) = new.role {
            put_role(write.db(), user.id, team, role).await?;
        }
        let mut after = shown(&user);
        after["team"] = json!(new.role.map(|(team, _)| team));
        after["role"] = json!(new.role.map(|(_, role)| role));
        write.finish(event("user.created", &user, Value::Null, after)).await?;
        Ok(user)
    }

    /// At most `limit` users in the order of their names, after a name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn users(&self, after: Option<&str>, limit: u32) -> Result<Vec<User>, StoreError> {
        let rows = sqlx::query("SELECT * FROM users WHERE name > $1 ORDER BY name LIMIT $2")
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(|row| user(&Columns(row))).collect()
    }

    /// A user by id.
    ///
    /// # Errors
    /// `Missing`, and what the database says.
    pub async fn user(&self, id: UserId) -> Result<User, StoreError> {
        let mut tx = self.read().await?;
        by_id(&mut tx, id).await
    }

    /// A user by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn user_by_name(&self, name: &UserName) -> Result<Option<User>, StoreError> {
        let row = sqlx::query("SELECT * FROM users WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| user(&Columns(&row))).transpose()
    }

    /// The user that a principal is.
    ///
    /// # Errors
    /// What the database says.
    pub async fn user_of(&self, principal: PrincipalId) -> Result<Option<User>, StoreError> {
        let row = sqlx::query("SELECT * FROM users WHERE principal_id = $1")
            .bind(principal.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| user(&Columns(&row))).transpose()
    }

    /// A user's roles, by team.
    ///
    /// # Errors
    /// What the database says.
    pub async fn memberships(&self, id: UserId) -> Result<Vec<Membership>, StoreError> {
        let mut tx = self.read().await?;
        let roles = roles(&mut tx, id).await?;
        Ok(roles.into_iter().map(|(team, role)| Membership { team, role }).collect())
    }

    /// Lets a user act, or no more: the sessions end then, and links are worth nothing.
    ///
    /// # Errors
    /// `Missing`, `LastAdministrator`, and what the database says.
    pub async fn set_user_state(
        &self,
        id: UserId,
        state: UserState,
        by: &By,
    ) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let user = by_id(write.db(), id).await?;
        if user.state == state {
            return Ok(());
        }
        let were = administrators(write.db()).await?;
        sqlx::query("UPDATE users SET state = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(state.as_str())
            .execute(write.db())
            .await?;
        keep_an_administrator(write.db(), were, user.name.as_str()).await?;
        if state == UserState::Disabled {
            for table in ["sessions", "sign_in_links"] {
                sqlx::query(&format!("DELETE FROM {table} WHERE user_id = $1"))
                    .bind(id.to_string())
                    .execute(write.db())
                    .await?;
            }
        }
        let after = json!({ "name": user.name, "state": state });
        write.finish(event("user.changed", &user, shown(&user), after)).await.map(drop)
    }

    /// Removes a user with sessions, links, tokens and keys.
    ///
    /// # Errors
    /// `Missing`, `LastAdministrator`, and what the database says.
    pub async fn remove_user(&self, id: UserId, by: &By) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let user = by_id(write.db(), id).await?;
        let were = administrators(write.db()).await?;
        sqlx::query("DELETE FROM users WHERE id = $1")
            .bind(id.to_string())
            .execute(write.db())
            .await?;
        keep_an_administrator(write.db(), were, user.name.as_str()).await?;
        write.finish(event("user.removed", &user, shown(&user), Value::Null)).await.map(drop)
    }

    /// Gives a user a role in a team, in the place of the one before.
    ///
    /// # Errors
    /// `Missing`, `LastAdministrator`, and what the database says.
    pub async fn grant_role(
        &self,
        id: UserId,
        team: TeamId,
        role: Role,
        by: &By,
    ) -> Result<(), StoreError> {
        self.change_role(id, team, Some(role), by).await
    }

    /// Takes a user's role in a team. One that is not there is fine.
    ///
    /// # Errors
    /// `Missing`, `LastAdministrator`, and what the database says.
    pub async fn take_role(&self, id: UserId, team: TeamId, by: &By) -> Result<(), StoreError> {
        self.change_role(id, team, None, by).await
    }

    async fn change_role(
        &self,
        id: UserId,
        team: TeamId,
        role: Option<Role>,
        by: &By,
    ) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let user = by_id(write.db(), id).await?;
        let had = roles(write.db(), id).await?.get(&team).copied();
        if had == role {
            return Ok(());
        }
        let were = administrators(write.db()).await?;
        match role {
            Some(role) => put_role(write.db(), id, team, role).await?,
            None => {
                sqlx::query("DELETE FROM memberships WHERE user_id = $1 AND team_id = $2")
                    .bind(id.to_string())
                    .bind(team.to_string())
                    .execute(write.db())
                    .await?;
            }
        }
        keep_an_administrator(write.db(), were, user.name.as_str()).await?;
        let told = |role: Option<Role>| match role {
            Some(role) => json!({ "name": user.name, "team": team, "role": role }),
            None => Value::Null,
        };
        let kind = if role.is_some() { "user.granted" } else { "user.role_removed" };
        let event = NewEvent {
            kind,
            subject: id.to_string(),
            app: None,
            team: Some(team),
            before: told(had),
            after: told(role),
        };
        write.finish(event).await.map(drop)
    }
}
