//! Links that sign a user in once.

use std::net::IpAddr;

use berth_model::{Role, UserId};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use super::sessions::{self, NewSession, SessionLimits, SignedIn};
use super::tokens::token_hash;
use super::users::{self, NewUser, User, UserState};
use crate::events::NewEvent;
use crate::row::Columns;
use crate::{By, Store, StoreError};

/// Name of the user that the first link is for.
const ADMIN: &str = "admin";

/// What a link led to.
#[derive(Clone, PartialEq, Eq)]
pub struct Linked {
    /// The session.
    pub session: SignedIn,
    /// Its cookie, which is not kept.
    pub cookie: String,
}

async fn put(
    db: &mut SqliteConnection,
    user: UserId,
    hash: &str,
    expires_at_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sign_in_links (user_id, hash, expires_at_ms) VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE
           SET hash = excluded.hash, expires_at_ms = excluded.expires_at_ms",
    )
    .bind(user.to_string())
    .bind(hash)
    .bind(expires_at_ms)
    .execute(db)
    .await?;
    Ok(())
}

fn event(user: &User, expires_at_ms: i64) -> NewEvent<'static> {
    NewEvent {
        kind: "user.linked",
        subject: user.id.to_string(),
        app: None,
        team: None,
        before: Value::Null,
        after: json!({ "name": user.name, "expires_at_ms": expires_at_ms }),
    }
}

impl Store {
    /// Makes a link for a user, whose earlier one is worth nothing then, and gives its secret, which
    /// is not kept.
    ///
    /// # Errors
    /// `Missing`, and what the database says.
    pub async fn make_link(
        &self,
        user: UserId,
        expires_at_ms: i64,
        by: &By,
    ) -> Result<String, StoreError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
        let secret = hex::encode(bytes);
        let mut write = self.write(by).await?;
        let user = users::by_id(write.db(), user).await?;
        put(write.db(), user.id, &token_hash(&secret), expires_at_ms).await?;
        write.finish(event(&user, expires_at_ms)).await?;
        Ok(secret)
    }

    /// Makes the link whose hash this is one for the user `admin`, who is made an administrator of
    /// that name where there is none.
    ///
    /// # Errors
    /// What the database says.
    pub async fn adopt_admin_link(
        &self,
        hash: &str,
        expires_at_ms: i64,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        let by = By::system(at_ms);
        let name = ADMIN.parse().map_err(|error: berth_model::NameError| StoreError::Row {
            column: "name".to_owned(),
            reason: error.to_string(),
        })?;
        let user = match self.user_by_name(&name).await? {
            Some(user) => user,
            None => {
                let role = Some((self.default_team(), Role::Admin));
                self.create_user(&NewUser { name, role }, &by).await?
            }
        };
        let mut write = self.write(&by).await?;
        put(write.db(), user.id, hash, expires_at_ms).await?;
        write.finish(event(&user, expires_at_ms)).await.map(drop)
    }

    /// Takes a link that is good now, which it is no more then, and begins a session of its user.
    ///
    /// # Errors
    /// What the database says.
    pub async fn follow_link(
        &self,
        secret: &str,
        agent: String,
        limits: SessionLimits,
        source_ip: Option<IpAddr>,
        at_ms: i64,
    ) -> Result<Option<Linked>, StoreError> {
        let row = sqlx::query("SELECT user_id FROM sign_in_links WHERE hash = $1")
            .bind(token_hash(secret))
            .fetch_optional(self.readers())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let user = self.user(Columns(&row).parsed("user_id")?).await?;
        let by = &By {
            principal: user.principal,
            name: user.name.to_string(),
            source_ip,
            ..By::system(at_ms)
        };
        let mut write = self.write(by).await?;
        let row = sqlx::query(
            "DELETE FROM sign_in_links WHERE hash = $1 AND expires_at_ms > $2 RETURNING user_id",
        )
        .bind(token_hash(secret))
        .bind(by.at_ms)
        .fetch_optional(write.db())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let user = users::by_id(write.db(), Columns(&row).parsed("user_id")?).await?;
        if user.state != UserState::Active {
            return Ok(None);
        }
        let new = NewSession { user: user.id, sets_password: true, agent, limits };
        let (session, cookie) = sessions::begin(write.db(), &new, by).await?;
        write.finish(sessions::event("session.started", &session, user.name.as_str())).await?;
        Ok(Some(Linked { session, cookie }))
    }
}
