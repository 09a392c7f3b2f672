//! Requests that may be sent twice and are done once.

use berth_model::PrincipalId;
use sqlx::sqlite::SqliteConnection;

use crate::row::Columns;
use crate::{Store, StoreError};

/// The answer that a request was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// `Location` header.
    pub location: Option<String>,
    /// Body, JSON.
    pub body: String,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: do the request, then [`Store::answer`] it.
    New,
    /// The same request was answered before.
    Answered(Answer),
    /// The same request was begun and never answered: it is under way, or was cut off.
    Begun {
        /// Position of the event of the change that it made; nothing was done without one.
        event: Option<i64>,
    },
    /// The key was used for another request.
    Other,
}

/// Notes what a request did, in the transaction that does it. The first change counts.
pub(crate) async fn done(
    db: &mut SqliteConnection,
    principal: PrincipalId,
    key: &str,
    event: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE idempotency SET event_seq = $3
         WHERE principal_id = $1 AND key = $2 AND event_seq IS NULL",
    )
    .bind(principal.to_string())
    .bind(key)
    .bind(event)
    .execute(db)
    .await?;
    Ok(())
}

impl Store {
    /// Claims a caller's key for a request, which is known by the hash of its text.
    ///
    /// # Errors
    /// What the database says.
    pub async fn claim(
        &self,
        principal: PrincipalId,
        key: &str,
        request_hash: &str,
        at_ms: i64,
    ) -> Result<Claim, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT * FROM idempotency WHERE principal_id = $1 AND key = $2")
            .bind(principal.to_string())
            .bind(key)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else {
            sqlx::query(
                "INSERT INTO idempotency (principal_id, key, request_hash, created_at_ms)
                 VALUES ($1, $2, $3, $4)",
            )
            .bind(principal.to_string())
            .bind(key)
            .bind(request_hash)
            .bind(at_ms)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            return Ok(Claim::New);
        };
        let row = Columns(&row);
        if row.text("request_hash")? != request_hash {
            return Ok(Claim::Other);
        }
        Ok(match row.opt_number("status")? {
            Some(status) => Claim::Answered(Answer {
                status,
                location: row.opt_text("location")?,
                body: row.opt_text("body")?.unwrap_or_default(),
            }),
            None => Claim::Begun { event: row.opt_int("event_seq")? },
        })
    }

    /// Keeps the answer of a claimed request.
    ///
    /// # Errors
    /// What the database says.
    pub async fn answer(
        &self,
        principal: PrincipalId,
        key: &str,
        answer: &Answer,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "UPDATE idempotency SET status = $3, location = $4, body = $5
             WHERE principal_id = $1 AND key = $2",
        )
        .bind(principal.to_string())
        .bind(key)
        .bind(i64::from(answer.status))
        .bind(&answer.location)
        .bind(&answer.body)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Gives a key back: the request was refused. One that did something keeps it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn disclaim(&self, principal: PrincipalId, key: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "DELETE FROM idempotency
             WHERE principal_id = $1 AND key = $2 AND status IS NULL AND event_seq IS NULL",
        )
        .bind(principal.to_string())
        .bind(key)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}
