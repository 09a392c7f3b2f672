//! Values that Wasm apps keep, each app in a space of its own with a quota. They outlive releases
//! and go with the app. They are data of the app and no change of the platform, so no event is
//! written.

use berth_model::AppId;
use sqlx::sqlite::SqliteConnection;

use crate::extensions::KvError;
use crate::row::Columns;
use crate::{Store, StoreError};

async fn forget_expired(
    db: &mut SqliteConnection,
    app: AppId,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM app_values WHERE app_id = $1 AND expires_at_ms <= $2")
        .bind(app.to_string())
        .bind(now_ms)
        .execute(db)
        .await?;
    Ok(())
}

impl Store {
    /// The value of a key.
    ///
    /// # Errors
    /// What the database says.
    pub async fn app_value(
        &self,
        app: AppId,
        key: &str,
        now_ms: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query(
            "SELECT value FROM app_values WHERE app_id = $1 AND key = $2
             AND (expires_at_ms IS NULL OR expires_at_ms > $3)",
        )
        .bind(app.to_string())
        .bind(key)
        .bind(now_ms)
        .fetch_optional(self.readers())
        .await?;
        row.map(|row| Columns(&row).bytes("value")).transpose()
    }

    /// Keys that begin with a prefix, in the order of their bytes.
    ///
    /// # Errors
    /// What the database says.
    pub async fn app_keys(
        &self,
        app: AppId,
        prefix: &str,
        count_max: u32,
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT key FROM app_values WHERE app_id = $1
             AND substr(key, 1, length($2)) = $2
             AND (expires_at_ms IS NULL OR expires_at_ms > $3) ORDER BY key LIMIT $4",
        )
        .bind(app.to_string())
        .bind(prefix)
        .bind(now_ms)
        .bind(i64::from(count_max))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| Columns(row).text("key")).collect()
    }

    /// Sets a key within the quota. With `absent_only`, only when it is not there; gives whether
    /// it was set.
    ///
    /// # Errors
    /// `Quota`, and what the database says.
    pub async fn put_app_value(
        &self,
        app: AppId,
        (key, value): (&str, &[u8]),
        expires_at_ms: Option<i64>,
        absent_only: bool,
        (quota_bytes, now_ms): (u64, i64),
    ) -> Result<bool, KvError> {
        let mut tx = self.begin().await?;
        forget_expired(&mut tx, app, now_ms).await?;
        let row = sqlx::query(
            "SELECT count(*) AS present FROM app_values WHERE app_id = $1 AND key = $2",
        )
        .bind(app.to_string())
        .bind(key)
        .fetch_one(&mut *tx)
        .await?;
        let present = Columns(&row).int("present")? > 0;
        if present && absent_only {
            tx.commit().await?;
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO app_values (app_id, key, value, expires_at_ms)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (app_id, key) DO UPDATE SET value = excluded.value,
               expires_at_ms = excluded.expires_at_ms",
        )
        .bind(app.to_string())
        .bind(key)
        .bind(value)
        .bind(expires_at_ms)
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query(
            "SELECT coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0) AS used
             FROM app_values WHERE app_id = $1",
        )
        .bind(app.to_string())
        .fetch_one(&mut *tx)
        .await?;
        if Columns(&row).number::<u64>("used")? > quota_bytes {
            // Dropped, the transaction never happened.
            return Err(KvError::Quota { quota_bytes });
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Removes a key; false when it was not there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove_app_value(
        &self,
        app: AppId,
        key: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        forget_expired(&mut tx, app, now_ms).await?;
        let done = sqlx::query("DELETE FROM app_values WHERE app_id = $1 AND key = $2")
            .bind(app.to_string())
            .bind(key)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}
