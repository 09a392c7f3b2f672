//! Opening the database, and transactions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection, Sqlite, Transaction};
use tokio::sync::watch;

use crate::events::NewEvent;
use crate::row::Columns;
use crate::seal::{Place, Sealer};
use crate::{By, StoreError, idempotency};

/// How long a statement waits for another process that holds the file.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// The write-ahead log is cut back to this after a checkpoint, bytes.
const WAL_BYTES_KEPT: &str = "67108864";

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The database of one platform. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// SQLite has one writer; one connection keeps the queue here, where it is fair.
    writer: SqlitePool,
    readers: SqlitePool,
    sealer: Sealer,
    domain: String,
    /// The newest event.
    events: watch::Sender<i64>,
    /// Counts appends to build logs.
    build_logs: watch::Sender<u64>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the file at `path`, makes it where there is none, and brings it to this version.
    /// `key` encrypts values; `domain` is the one below which apps get their default host name.
    ///
    /// # Errors
    /// `Open`, `Migrate`, and `WrongKey` when values are encrypted with another key.
    pub async fn open(path: &Path, key: &[u8; 32], domain: &str) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_WAIT)
            .pragma("journal_size_limit", WAL_BYTES_KEPT)
            // What is deleted is not left in the file.
            .pragma("secure_delete", "ON")
            .optimize_on_close(true, None);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(30))
            // When the disk is full, SQLite ends the transaction by itself. The driver does not
            // notice, and no other would ever begin on the connection: it is replaced.
            .before_acquire(|connection, _| {
                let usable = !connection.is_in_transaction();
                Box::pin(async move { Ok(usable) })
            })
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        MIGRATIONS
            .run(&writer)
            .await
            .map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options.read_only(true))
            .await
            .map_err(failed)?;
        let inner = Inner {
            writer,
            readers,
            sealer: Sealer::new(key),
            domain: domain.to_owned(),
            events: watch::Sender::new(0),
            build_logs: watch::Sender::new(0),
        };
        let store = Self { inner: Arc::new(inner) };
        store.check_key().await?;
        store.inner.events.send_replace(store.newest_event().await?);
        store.first_rows().await?;
        Ok(store)
    }

    /// Refuses another key before anything is sealed with it.
    async fn check_key(&self) -> Result<(), StoreError> {
        const CHECK: &str = "the key is right";
        let place = Place(&["meta", "key_check"]);
        let mut tx = self.begin().await?;
        let stored = sqlx::query("SELECT value FROM meta WHERE name = 'key_check'")
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(row) = stored {
            let value = Columns(&row).text("value")?;
            let (id, sealed) = value.split_once(' ').unwrap_or((&value, ""));
            let sealed = hex::decode(sealed).unwrap_or_default();
            self.sealer().open(&place, id, &sealed)?;
            return Ok(());
        }
        let sealed = hex::encode(self.sealer().seal(&place, CHECK)?);
        sqlx::query("INSERT INTO meta (name, value) VALUES ('key_check', $1)")
            .bind(format!("{} {sealed}", self.sealer().key_id()))
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Waits until every statement has ended and closes the file.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }

    /// Domain below which apps get their default host name.
    pub fn domain(&self) -> &str {
        &self.inner.domain
    }

    /// Changes when an event was written; its value is the newest position.
    pub fn watch_events(&self) -> watch::Receiver<i64> {
        self.inner.events.subscribe()
    }

    /// Changes when lines were appended to any build's log, or a build ended.
    pub fn watch_build_logs(&self) -> watch::Receiver<u64> {
        self.inner.build_logs.subscribe()
    }

    pub(crate) fn build_logs_changed(&self) {
        self.inner.build_logs.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    /// One moment's view of everything, for several statements.
    pub(crate) async fn read(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.inner.readers.begin().await?)
    }

    /// Readers, for a single statement.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.inner.readers
    }

    /// A write transaction without an event. IMMEDIATE: the lock is taken before anything is read.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.inner.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// A write transaction that ends with an event.
    pub(crate) async fn write(&self, by: &By) -> Result<Write, StoreError> {
        Ok(Write { tx: self.begin().await?, store: self.clone(), by: by.clone() })
    }
}

/// A change under way. Dropped, it never happened.
pub(crate) struct Write {
    tx: Transaction<'static, Sqlite>,
    store: Store,
    by: By,
}

impl Write {
    pub(crate) fn db(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }

    pub(crate) fn by(&self) -> &By {
        &self.by
    }

    /// Writes the change's event, and makes both durable.
    pub(crate) async fn finish(mut self, event: NewEvent<'_>) -> Result<i64, StoreError> {
        let seq = event.insert(&mut self.tx, &self.by).await?;
        if let Some(key) = &self.by.once {
            idempotency::done(&mut self.tx, self.by.principal, key, seq).await?;
        }
        self.tx.commit().await?;
        // Two commits may come here in the other order.
        self.store.inner.events.send_if_modified(|newest| {
            let newer = seq > *newest;
            *newest = seq.max(*newest);
            newer
        });
        Ok(seq)
    }
}

/// Random bytes of an id.
pub(crate) fn random() -> Result<[u8; 10], StoreError> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
    Ok(bytes)
}

/// The time part of an id.
pub(crate) fn id_time(at_ms: i64) -> u64 {
    u64::try_from(at_ms).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use berth_model::Digest;
    use berth_model::plan::Change;

    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_said_and_nothing_half_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db"), &[7; 32], "localhost").await.unwrap();
        let change = Change::Create { name: "hello".parse().unwrap(), team: store.default_team() };
        let by = By::system(1);
        let app = store.change(None, &change, None, &by).await.unwrap().app;
        let source = Digest::from_sha256([1; 32]);
        let build = store.create_build(app.id, "c", source, None, &by).await.unwrap();
        // SQLite says the same for this limit as for a full disk.
        sqlx::query("PRAGMA max_page_count = 100").execute(&store.inner.writer).await.unwrap();
        let lines = vec!["x".repeat(10_000); 200];
        let error = store.append_build_log(build.id, &lines, 1).await.unwrap_err();
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
        assert!(store.build_log(build.id, 0, 10).await.unwrap().is_empty());
        // There is room again: a new connection has no limit.
        store.append_build_log(build.id, &lines, 1).await.unwrap();
    }
}
