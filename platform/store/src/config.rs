//! Configurations: immutable versions of sealed values.

use std::collections::BTreeMap;

use berth_model::AppId;
use berth_model::plan::{Config, ConfigName, Secret};
use sqlx::sqlite::SqliteConnection;

use crate::row::{Columns, to_int};
use crate::seal::{Place, Sealer};
use crate::{Store, StoreError};

/// A version of a configuration, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigVersion {
    /// Its number.
    pub version: u64,
    /// Names that it holds.
    pub names: Vec<ConfigName>,
    /// Who made it.
    pub actor: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// Opens the values of a version; version 0 is the empty one.
pub(crate) async fn values(
    db: &mut SqliteConnection,
    sealer: &Sealer,
    app: AppId,
    version: u64,
) -> Result<Config, StoreError> {
    let (app, number) = (app.to_string(), version.to_string());
    let rows = sqlx::query(
        "SELECT name, key_id, sealed FROM config_values WHERE app_id = $1 AND version = $2",
    )
    .bind(&app)
    .bind(to_int("version", version)?)
    .fetch_all(db)
    .await?;
    let mut config = Config::new();
    for row in &rows {
        let row = Columns(row);
        let name: ConfigName = row.parsed("name")?;
        let place = Place(&["config_values", &app, name.as_str(), &number]);
        let value = sealer.open(&place, &row.text("key_id")?, &row.bytes("sealed")?)?;
        config.insert(name, Secret::new(value));
    }
    Ok(config)
}

/// Writes a new version.
pub(crate) async fn insert(
    db: &mut SqliteConnection,
    sealer: &Sealer,
    app: AppId,
    version: u64,
    config: &Config,
    (actor, at_ms): (&str, i64),
) -> Result<(), StoreError> {
    let (app, number) = (app.to_string(), version.to_string());
    sqlx::query(
        "INSERT INTO config_versions (app_id, version, actor, created_at_ms) VALUES ($1, $2, $3, $4)",
    )
    .bind(&app)
    .bind(to_int("version", version)?)
    .bind(actor)
    .bind(at_ms)
    .execute(&mut *db)
    .await?;
    for (name, value) in config {
        let place = Place(&["config_values", &app, name.as_str(), &number]);
        sqlx::query(
            "INSERT INTO config_values (app_id, version, name, key_id, sealed)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&app)
        .bind(to_int("version", version)?)
        .bind(name.as_str())
        .bind(sealer.key_id())
        .bind(sealer.seal(&place, value.reveal())?)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// The version that the next release takes, and the newest there is.
pub(crate) async fn versions(
    db: &mut SqliteConnection,
    app: AppId,
) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query(
        "SELECT config_version,
                (SELECT coalesce(max(version), 0) FROM config_versions WHERE app_id = $1) AS newest
         FROM apps WHERE id = $1",
    )
    .bind(app.to_string())
    .fetch_one(db)
    .await?;
    Ok((Columns(&row).number("config_version")?, Columns(&row).number("newest")?))
}

impl Store {
    /// The configuration that the app's next release takes, with its version.
    ///
    /// # Errors
    /// What the database says; values that were changed outside of Berth.
    pub async fn config(&self, app: AppId) -> Result<(u64, Config), StoreError> {
        let mut tx = self.read().await?;
        let (version, _) = versions(&mut tx, app).await?;
        Ok((version, values(&mut tx, self.sealer(), app, version).await?))
    }

    /// Version of the configuration that the app's next release takes; 0 is the empty one.
    ///
    /// # Errors
    /// What the database says.
    pub async fn config_version(&self, app: AppId) -> Result<u64, StoreError> {
        let mut tx = self.read().await?;
        versions(&mut tx, app).await.map(|(current, _)| current)
    }

    /// The configuration of a version.
    ///
    /// # Errors
    /// What the database says; values that were changed outside of Berth.
    pub async fn config_of(&self, app: AppId, version: u64) -> Result<Config, StoreError> {
        let mut tx = self.read().await?;
        values(&mut tx, self.sealer(), app, version).await
    }

    /// At most `limit` versions before a number, newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn config_versions(
        &self,
        app: AppId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<ConfigVersion>, StoreError> {
        let mut tx = self.read().await?;
        let rows = sqlx::query(
            "SELECT version, actor, created_at_ms FROM config_versions
             WHERE app_id = $1 AND ($2 IS NULL OR version < $2) ORDER BY version DESC LIMIT $3",
        )
        .bind(app.to_string())
        .bind(before.map(|version| to_int("version", version)).transpose()?)
        .bind(i64::from(limit))
        .fetch_all(&mut *tx)
        .await?;
        let mut versions = Vec::with_capacity(rows.len());
        for row in &rows {
            let row = Columns(row);
            versions.push(ConfigVersion {
                version: row.number("version")?,
                names: Vec::new(),
                actor: row.text("actor")?,
                created_at_ms: row.int("created_at_ms")?,
            });
        }
        let oldest = versions.last().map_or(0, |version| version.version);
        let newest = versions.first().map_or(0, |version| version.version);
        let rows = sqlx::query(
            "SELECT version, name FROM config_values
             WHERE app_id = $1 AND version BETWEEN $2 AND $3 ORDER BY name",
        )
        .bind(app.to_string())
        .bind(to_int("version", oldest)?)
        .bind(to_int("version", newest)?)
        .fetch_all(&mut *tx)
        .await?;
        let mut names: BTreeMap<u64, Vec<ConfigName>> = BTreeMap::new();
        for row in &rows {
            let row = Columns(row);
            names.entry(row.number("version")?).or_default().push(row.parsed("name")?);
        }
        for version in &mut versions {
            version.names = names.remove(&version.version).unwrap_or_default();
        }
        Ok(versions)
    }
}
