//! Volumes of apps. Changes go through plans; what they hold is on the machine.

use berth_model::plan::NewVolume;
use berth_model::{AppId, Volume, VolumeId};
use sqlx::sqlite::SqliteConnection;

use crate::row::Columns;
use crate::store::{Write, id_time, random};
use crate::{Store, StoreError};

fn volume(row: &Columns<'_>) -> Result<Volume, StoreError> {
    Ok(Volume {
        id: row.parsed("id")?,
        app: row.parsed("app_id")?,
        name: row.parsed("name")?,
        process: row.parsed("process")?,
        path: row.parsed("path")?,
        size_mib: row.number("size_mib")?,
        made: row.int("made")? != 0,
        created_at_ms: row.int("created_at_ms")?,
    })
}

/// The volumes of an app, by name.
pub(crate) async fn of_app(
    db: &mut SqliteConnection,
    app: AppId,
) -> Result<Vec<Volume>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM volumes WHERE app_id = $1 AND removed_at_ms IS NULL ORDER BY name",
    )
    .bind(app.to_string())
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| volume(&Columns(row))).collect()
}

pub(crate) async fn insert(
    write: &mut Write,
    app: AppId,
    new: &NewVolume,
) -> Result<(), StoreError> {
    let at_ms = write.by().at_ms;
    sqlx::query(
        "INSERT INTO volumes (id, app_id, name, process, path, size_mib, created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(VolumeId::new(id_time(at_ms), random()?).to_string())
    .bind(app.to_string())
    .bind(new.name.as_str())
    .bind(new.process.as_str())
    .bind(new.path.as_str())
    .bind(i64::from(new.size_mib))
    .bind(at_ms)
    .execute(write.db())
    .await
    .map_err(|error| StoreError::from(error).exists("volume", new.name.as_str()))?;
    Ok(())
}

pub(crate) async fn remove(write: &mut Write, id: VolumeId) -> Result<(), StoreError> {
    let at_ms = write.by().at_ms;
    sqlx::query("UPDATE volumes SET removed_at_ms = $2 WHERE id = $1 AND removed_at_ms IS NULL")
        .bind(id.to_string())
        .bind(at_ms)
        .execute(write.db())
        .await?;
    Ok(())
}

impl Store {
    /// The volumes of an app, by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn volumes(&self, app: AppId) -> Result<Vec<Volume>, StoreError> {
        let mut tx = self.read().await?;
        of_app(&mut tx, app).await
    }

    /// Writes down that an instance ran with these: their disks exist, and are never made anew.
    /// No change of what anybody asked for, so it has no event.
    ///
    /// # Errors
    /// What the database says.
    pub async fn volumes_made(&self, volumes: &[VolumeId]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for id in volumes {
            sqlx::query("UPDATE volumes SET made = 1 WHERE id = $1")
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Volumes whose disks are to go: removed ones, and those of apps that were destroyed; of all
    /// apps, or of one.
    ///
    /// # Errors
    /// What the database says.
    pub async fn removed_volumes(&self, app: Option<AppId>) -> Result<Vec<VolumeId>, StoreError> {
        let rows = sqlx::query(
            "SELECT volumes.id AS id FROM volumes JOIN apps ON apps.id = volumes.app_id
             WHERE (removed_at_ms IS NOT NULL OR apps.destroyed_at_ms IS NOT NULL)
               AND ($1 IS NULL OR app_id = $1)
             ORDER BY volumes.id",
        )
        .bind(app.map(|app| app.to_string()))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| Columns(row).parsed("id")).collect()
    }

    /// Forgets a removed volume, when its disk is gone.
    ///
    /// # Errors
    /// What the database says; one that is in use is left alone.
    pub async fn erase_volume(&self, id: VolumeId) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "DELETE FROM volumes WHERE id = $1
               AND (removed_at_ms IS NOT NULL
                    OR app_id IN (SELECT id FROM apps WHERE destroyed_at_ms IS NOT NULL))",
        )
        .bind(id.to_string())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}
