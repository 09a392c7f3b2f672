//! Releases: immutable rows, numbered within their app.

use berth_model::{AppId, Release, ReleaseId};
use sqlx::sqlite::SqliteConnection;

use crate::row::{Columns, to_int, to_json};
use crate::{Store, StoreError};

pub(crate) fn release(row: &Columns<'_>) -> Result<Release, StoreError> {
    Ok(Release {
        id: row.parsed("id")?,
        app: row.parsed("app_id")?,
        number: row.number("number")?,
        image: row.parsed("image")?,
        manifest: row.json("manifest")?,
        config_version: row.number("config_version")?,
        commit: row.text("commit_id")?,
        reason: row.text("reason")?,
        actor: row.parsed("actor_id")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

pub(crate) async fn by_id(
    db: &mut SqliteConnection,
    id: ReleaseId,
) -> Result<Option<Release>, StoreError> {
    let row = sqlx::query("SELECT * FROM releases WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| release(&Columns(&row))).transpose()
}

pub(crate) async fn by_number(
    db: &mut SqliteConnection,
    app: AppId,
    number: u64,
) -> Result<Option<Release>, StoreError> {
    // A number that the database cannot hold is one that no release has.
    let Ok(number) = i64::try_from(number) else { return Ok(None) };
    let row = sqlx::query("SELECT * FROM releases WHERE app_id = $1 AND number = $2")
        .bind(app.to_string())
        .bind(number)
        .fetch_optional(db)
        .await?;
    row.map(|row| release(&Columns(&row))).transpose()
}

pub(crate) async fn newest_number(
    db: &mut SqliteConnection,
    app: AppId,
) -> Result<u64, StoreError> {
    let row =
        sqlx::query("SELECT coalesce(max(number), 0) AS number FROM releases WHERE app_id = $1")
            .bind(app.to_string())
            .fetch_one(db)
            .await?;
    Columns(&row).number("number")
}

pub(crate) async fn insert(db: &mut SqliteConnection, release: &Release) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO releases
           (id, app_id, number, image, manifest, config_version, commit_id, reason, actor_id, created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(release.id.to_string())
    .bind(release.app.to_string())
    .bind(to_int("number", release.number)?)
    .bind(release.image.to_string())
    .bind(to_json("manifest", &release.manifest)?)
    .bind(to_int("config_version", release.config_version)?)
    .bind(&release.commit)
    .bind(&release.reason)
    .bind(release.actor.to_string())
    .bind(release.created_at_ms)
    .execute(db)
    .await?;
    Ok(())
}

impl Store {
    /// A release by its id.
    ///
    /// # Errors
    /// What the database says.
    pub async fn release(&self, id: ReleaseId) -> Result<Option<Release>, StoreError> {
        let mut tx = self.read().await?;
        by_id(&mut tx, id).await
    }

    /// A release by its number.
    ///
    /// # Errors
    /// What the database says.
    pub async fn release_by_number(
        &self,
        app: AppId,
        number: u64,
    ) -> Result<Option<Release>, StoreError> {
        let mut tx = self.read().await?;
        by_number(&mut tx, app, number).await
    }

    /// At most `limit` releases before a number, newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn releases(
        &self,
        app: AppId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Release>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM releases WHERE app_id = $1 AND ($2 IS NULL OR number < $2)
             ORDER BY number DESC LIMIT $3",
        )
        .bind(app.to_string())
        .bind(before.map(|number| to_int("number", number)).transpose()?)
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| release(&Columns(row))).collect()
    }
}
