//! Events on their way to hooks. The outbox is the table of events itself, with a position for each
//! hook; what a hook did not take at once has a row here until it takes it, or is dead.

use berth_model::Event;
use berth_model::extension::ExtensionId;

use crate::events::event;
use crate::row::Columns;
use crate::{Store, StoreError};

/// An event that a hook has not taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// What happened.
    pub event: Event,
    /// Tries so far.
    pub attempts: u32,
    /// Not before then, Unix milliseconds.
    pub next_at_ms: i64,
    /// Whether it is tried no more.
    pub dead: bool,
    /// What the last try said.
    pub error: Option<String>,
}

fn delivery(row: &Columns<'_>) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        event: event(row)?,
        attempts: row.number("attempts")?,
        next_at_ms: row.int("next_at_ms")?,
        dead: row.int("dead")? != 0,
        error: row.opt_text("error")?,
    })
}

impl Store {
    /// Takes note that a hook was asked about everything up to `seen`, and that it wants these
    /// events: each has a row from now on, until it was taken.
    ///
    /// # Errors
    /// What the database says.
    pub async fn add_deliveries(
        &self,
        id: &ExtensionId,
        seen: i64,
        wanted: &[(i64, String)],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (seq, subject) in wanted {
            sqlx::query(
                "INSERT INTO deliveries
                   (extension_id, event_seq, subject, attempts, next_at_ms, dead)
                 VALUES ($1, $2, $3, 0, $4, 0) ON CONFLICT DO NOTHING",
            )
            .bind(id.as_str())
            .bind(seq)
            .bind(subject)
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query("UPDATE extensions SET seen = max(seen, $2) WHERE id = $1")
            .bind(id.as_str())
            .bind(seen)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// What may be tried now: of each subject only the oldest that is not dead, when its time has
    /// come.
    ///
    /// # Errors
    /// What the database says.
    pub async fn due_deliveries(
        &self,
        id: &ExtensionId,
        now_ms: i64,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let rows = sqlx::query(
            "SELECT events.*, d.attempts, d.next_at_ms, d.dead, d.error
             FROM deliveries d JOIN events ON events.seq = d.event_seq
             WHERE d.extension_id = $1 AND d.dead = 0 AND d.next_at_ms <= $2
               AND NOT EXISTS (SELECT 1 FROM deliveries older
                 WHERE older.extension_id = d.extension_id AND older.subject = d.subject
                   AND older.dead = 0 AND older.event_seq < d.event_seq)
             ORDER BY d.event_seq LIMIT $3",
        )
        .bind(id.as_str())
        .bind(now_ms)
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| delivery(&Columns(row))).collect()
    }

    /// When the next try is due, of what [`Store::due_deliveries`] will give next: what waits for an
    /// older event of its subject has no time of its own.
    ///
    /// # Errors
    /// What the database says.
    pub async fn next_delivery_at_ms(&self, id: &ExtensionId) -> Result<Option<i64>, StoreError> {
        let row = sqlx::query(
            "SELECT min(d.next_at_ms) AS next
             FROM deliveries d JOIN events ON events.seq = d.event_seq
             WHERE d.extension_id = $1 AND d.dead = 0
               AND NOT EXISTS (SELECT 1 FROM deliveries older
                 WHERE older.extension_id = d.extension_id AND older.subject = d.subject
                   AND older.dead = 0 AND older.event_seq < d.event_seq)",
        )
        .bind(id.as_str())
        .fetch_one(self.readers())
        .await?;
        Columns(&row).opt_int("next")
    }

    /// The hook took the event.
    ///
    /// # Errors
    /// What the database says.
    pub async fn delivered(&self, id: &ExtensionId, seq: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM deliveries WHERE extension_id = $1 AND event_seq = $2")
            .bind(id.as_str())
            .bind(seq)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// The hook did not take the event: it is tried again at `next_at_ms`, or never.
    ///
    /// # Errors
    /// What the database says.
    pub async fn not_delivered(
        &self,
        id: &ExtensionId,
        seq: i64,
        next_at_ms: Option<i64>,
        error: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "UPDATE deliveries SET attempts = attempts + 1, next_at_ms = coalesce($3, next_at_ms),
               dead = CASE WHEN $3 IS NULL THEN 1 ELSE 0 END, error = $4
             WHERE extension_id = $1 AND event_seq = $2",
        )
        .bind(id.as_str())
        .bind(seq)
        .bind(next_at_ms)
        .bind(error)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// What a hook has not taken, dead letters first, then by event.
    ///
    /// # Errors
    /// What the database says.
    pub async fn deliveries(
        &self,
        id: &ExtensionId,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let rows = sqlx::query(
            "SELECT events.*, d.attempts, d.next_at_ms, d.dead, d.error
             FROM deliveries d JOIN events ON events.seq = d.event_seq
             WHERE d.extension_id = $1 ORDER BY d.dead DESC, d.event_seq LIMIT $2",
        )
        .bind(id.as_str())
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| delivery(&Columns(row))).collect()
    }

    /// Offers dead letters again from now on: one event, or all of them. Gives their number.
    ///
    /// # Errors
    /// What the database says.
    pub async fn replay_deliveries(
        &self,
        id: &ExtensionId,
        seq: Option<i64>,
        now_ms: i64,
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "UPDATE deliveries SET dead = 0, attempts = 0, next_at_ms = $3
             WHERE extension_id = $1 AND dead = 1 AND ($2 IS NULL OR event_seq = $2)",
        )
        .bind(id.as_str())
        .bind(seq)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}
