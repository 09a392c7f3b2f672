//! Values by key, each owner in a space of its own with a quota: those of extensions and those of
//! Wasm apps, which lie in tables of the same form. They are data of their owner and no change of
//! the platform, so no event is written.

use sqlx::sqlite::SqliteConnection;

use crate::row::Columns;
use crate::{Store, StoreError};

/// A value that was not kept.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// There is no room for it.
    #[error("the quota of {quota_bytes} bytes is used up")]
    Quota {
        /// Bytes of keys and values together.
        quota_bytes: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for KvError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The values of one owner. Table and column are words of this program, never of somebody else.
pub(crate) struct Space<'a> {
    pub(crate) table: &'static str,
    /// The column that says whose a value is.
    pub(crate) column: &'static str,
    pub(crate) owner: &'a str,
}

impl Space<'_> {
    /// The value of a key.
    pub(crate) async fn value(
        &self,
        store: &Store,
        key: &str,
        now_ms: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Self { table, column, owner } = self;
        let sql = format!(
            "SELECT value FROM {table} WHERE {column} = $1 AND key = $2
             AND (expires_at_ms IS NULL OR expires_at_ms > $3)"
        );
        let row = sqlx::query(&sql)
            .bind(*owner)
            .bind(key)
            .bind(now_ms)
            .fetch_optional(store.readers())
            .await?;
        row.map(|row| Columns(&row).bytes("value")).transpose()
    }

    /// Keys that begin with a prefix, in the order of their bytes.
    pub(crate) async fn keys(
        &self,
        store: &Store,
        prefix: &str,
        count_max: u32,
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        let Self { table, column, owner } = self;
        let sql = format!(
            "SELECT key FROM {table} WHERE {column} = $1
             AND substr(key, 1, length($2)) = $2
             AND (expires_at_ms IS NULL OR expires_at_ms > $3) ORDER BY key LIMIT $4"
        );
        let rows = sqlx::query(&sql)
            .bind(*owner)
            .bind(prefix)
            .bind(now_ms)
            .bind(i64::from(count_max))
            .fetch_all(store.readers())
            .await?;
        rows.iter().map(|row| Columns(row).text("key")).collect()
    }

    /// Sets a key within the quota. With `absent_only`, only when it is not there; gives whether
    /// it was set.
    pub(crate) async fn put(
        &self,
        store: &Store,
        (key, value): (&str, &[u8]),
        expires_at_ms: Option<i64>,
        absent_only: bool,
        (quota_bytes, now_ms): (u64, i64),
    ) -> Result<bool, KvError> {
        let Self { table, column, owner } = self;
        let mut tx = store.begin().await?;
        self.forget_expired(&mut tx, now_ms).await?;
        let sql =
            format!("SELECT count(*) AS present FROM {table} WHERE {column} = $1 AND key = $2");
        let row = sqlx::query(&sql).bind(*owner).bind(key).fetch_one(&mut *tx).await?;
        let present = Columns(&row).int("present")? > 0;
        if present && absent_only {
            tx.commit().await?;
            return Ok(false);
        }
        let sql = format!(
            "INSERT INTO {table} ({column}, key, value, expires_at_ms)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT ({column}, key) DO UPDATE SET value = excluded.value,
               expires_at_ms = excluded.expires_at_ms"
        );
        sqlx::query(&sql)
            .bind(*owner)
            .bind(key)
            .bind(value)
            .bind(expires_at_ms)
            .execute(&mut *tx)
            .await?;
        let sql = format!(
            "SELECT coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0) AS used
             FROM {table} WHERE {column} = $1"
        );
        let row = sqlx::query(&sql).bind(*owner).fetch_one(&mut *tx).await?;
        if Columns(&row).number::<u64>("used")? > quota_bytes {
            // Dropped, the transaction never happened.
            return Err(KvError::Quota { quota_bytes });
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Removes a key; false when it was not there.
    pub(crate) async fn remove(
        &self,
        store: &Store,
        key: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let Self { table, column, owner } = self;
        let mut tx = store.begin().await?;
        self.forget_expired(&mut tx, now_ms).await?;
        let sql = format!("DELETE FROM {table} WHERE {column} = $1 AND key = $2");
        let done = sqlx::query(&sql).bind(*owner).bind(key).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    async fn forget_expired(
        &self,
        db: &mut SqliteConnection,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let Self { table, column, owner } = self;
        let sql = format!("DELETE FROM {table} WHERE {column} = $1 AND expires_at_ms <= $2");
        sqlx::query(&sql).bind(*owner).bind(now_ms).execute(db).await?;
        Ok(())
    }
}
