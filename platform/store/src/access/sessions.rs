//! Sessions of the console, of whose cookies only hashes are kept.

use std::net::IpAddr;

use berth_model::{SessionId, UserId};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use super::tokens::token_hash;
use super::users;
use crate::events::NewEvent;
use crate::row::Columns;
use crate::store::{id_time, random};
use crate::{By, Store, StoreError};

/// Sessions that a user may have at once; the oldest ends for a new one.
const SESSIONS_MAX: i64 = 32;

/// How long a session lasts, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Since it was last used.
    pub idle_ms: i64,
    /// Since it began.
    pub absolute_ms: i64,
}

/// A session; its cookie is known to a browser only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// It may choose a password without knowing the one before.
    pub sets_password: bool,
    /// Where it began.
    pub source_ip: Option<IpAddr>,
    /// What the browser called itself, as far as it is printable.
    pub agent: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds; when it was last used, about.
    pub seen_at_ms: i64,
}

impl SignedIn {
    /// Unix milliseconds; it ends then, unless it is used before.
    pub fn until_ms(&self, limits: SessionLimits) -> i64 {
        let idle = self.seen_at_ms.saturating_add(limits.idle_ms);
        idle.min(self.ends_at_ms(limits))
    }

    /// Unix milliseconds; it ends then, however it is used.
    pub fn ends_at_ms(&self, limits: SessionLimits) -> i64 {
        self.created_at_ms.saturating_add(limits.absolute_ms)
    }
}

/// A session to be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// Whose it is.
    pub user: UserId,
    /// It may choose a password without knowing the one before.
    pub sets_password: bool,
    /// What the browser called itself, as far as it is printable.
    pub agent: String,
    /// Sessions that are older are ended on the way.
    pub limits: SessionLimits,
}

fn session(row: &Columns<'_>) -> Result<SignedIn, StoreError> {
    Ok(SignedIn {
        id: row.parsed("id")?,
        user: row.parsed("user_id")?,
        sets_password: row.int("sets_password")? != 0,
        source_ip: row.opt_parsed("source_ip")?,
        agent: row.text("agent")?,
        created_at_ms: row.int("created_at_ms")?,
        seen_at_ms: row.int("seen_at_ms")?,
    })
}

pub(super) async fn by_id(
    db: &mut SqliteConnection,
    id: SessionId,
) -> Result<Option<SignedIn>, StoreError> {
    let row = sqlx::query("SELECT * FROM sessions WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| session(&Columns(&row))).transpose()
}

pub(super) async fn by_hash(
    db: &mut SqliteConnection,
    hash: &str,
) -> Result<Option<SignedIn>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM sessions WHERE hash = $1").bind(hash).fetch_optional(db).await?;
    row.map(|row| session(&Columns(&row))).transpose()
}

/// Begins a session within a transaction, and gives it with its cookie.
pub(super) async fn begin(
    db: &mut SqliteConnection,
    new: &NewSession,
    by: &By,
) -> Result<(SignedIn, String), StoreError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
    let cookie = hex::encode(bytes);
    let begun = SignedIn {
        id: SessionId::new(id_time(by.at_ms), random()?),
        user: new.user,
        sets_password: new.sets_password,
        source_ip: by.source_ip,
        agent: new.agent.clone(),
        created_at_ms: by.at_ms,
        seen_at_ms: by.at_ms,
    };
    sqlx::query("DELETE FROM sessions WHERE created_at_ms <= $1 OR seen_at_ms <= $2")
        .bind(by.at_ms.saturating_sub(new.limits.absolute_ms))
        .bind(by.at_ms.saturating_sub(new.limits.idle_ms))
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "DELETE FROM sessions WHERE user_id = $1 AND id NOT IN
           (SELECT id FROM sessions WHERE user_id = $1 ORDER BY id DESC LIMIT $2)",
    )
    .bind(new.user.to_string())
    .bind(SESSIONS_MAX - 1)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "INSERT INTO sessions
           (id, user_id, hash, sets_password, source_ip, agent, created_at_ms, seen_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
    )
    .bind(begun.id.to_string())
    .bind(begun.user.to_string())
    .bind(token_hash(&cookie))
    .bind(begun.sets_password)
    .bind(begun.source_ip.map(|ip| ip.to_string()))
    .bind(&begun.agent)
    .bind(begun.created_at_ms)
    .execute(&mut *db)
    .await?;
    Ok((begun, cookie))
}

pub(super) fn event(kind: &'static str, session: &SignedIn, user: &str) -> NewEvent<'static> {
    let shown = json!({ "user": user, "by_link": session.sets_password });
    let ended = kind == "session.ended";
    NewEvent {
        kind,
        subject: session.id.to_string(),
        app: None,
        team: None,
        before: if ended { shown.clone() } else { Value::Null },
        after: if ended { Value::Null } else { shown },
    }
}

impl Store {
    /// Begins a session of a user whose password is `password` still, and gives it with its cookie,
    /// which is not kept; nothing when the password was changed, or the user may not act.
    ///
    /// # Errors
    /// What the database says.
    pub async fn sign_in(
        &self,
        new: &NewSession,
        password: &str,
        by: &By,
    ) -> Result<Option<(SignedIn, String)>, StoreError> {
        let mut write = self.write(by).await?;
        let user = users::by_id(write.db(), new.user).await?;
        if user.state != users::UserState::Active || user.password.as_deref() != Some(password) {
            return Ok(None);
        }
        let (session, cookie) = begin(write.db(), new, by).await?;
        write.finish(event("session.started", &session, user.name.as_str())).await?;
        Ok(Some((session, cookie)))
    }

    /// Notes that a session is in use. No event: it is nothing that anybody did.
    ///
    /// # Errors
    /// What the database says.
    pub async fn session_seen(&self, id: SessionId, at_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE sessions SET seen_at_ms = $2 WHERE id = $1 AND seen_at_ms < $2")
            .bind(id.to_string())
            .bind(at_ms)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// A session.
    ///
    /// # Errors
    /// What the database says.
    pub async fn session(&self, id: SessionId) -> Result<Option<SignedIn>, StoreError> {
        let mut tx = self.read().await?;
        by_id(&mut tx, id).await
    }

    /// The sessions of a user that have not ended, newest first; there are few.
    ///
    /// # Errors
    /// What the database says.
    pub async fn sessions(
        &self,
        user: UserId,
        limits: SessionLimits,
        at_ms: i64,
    ) -> Result<Vec<SignedIn>, StoreError> {
        let rows = sqlx::query("SELECT * FROM sessions WHERE user_id = $1 ORDER BY id DESC")
            .bind(user.to_string())
            .fetch_all(self.readers())
            .await?;
        let all: Result<Vec<SignedIn>, _> = rows.iter().map(|row| session(&Columns(row))).collect();
        Ok(all?.into_iter().filter(|session| at_ms < session.until_ms(limits)).collect())
    }

    /// Ends a session. One that is not there is fine.
    ///
    /// # Errors
    /// What the database says.
    pub async fn end_session(&self, id: SessionId, by: &By) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let Some(session) = by_id(write.db(), id).await? else { return Ok(()) };
        let user = users::by_id(write.db(), session.user).await?;
        sqlx::query("DELETE FROM sessions WHERE id = $1")
            .bind(id.to_string())
            .execute(write.db())
            .await?;
        write.finish(event("session.ended", &session, user.name.as_str())).await.map(drop)
    }
}
