//! Backups of add-ons. What they hold is in the blob store; the rows name it.

use berth_model::addon::BACKUPS_MAX;
use berth_model::extension::ExtensionId;
use berth_model::image::Image;
use berth_model::{AppId, BackupId, Digest};
use serde_json::{Value, json};

use crate::apps::team_of;
use crate::events::NewEvent;
use crate::row::{Columns, to_int};
use crate::store::{id_time, random};
use crate::{By, Store, StoreError, images};

/// A backup of an add-on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its id.
    pub id: BackupId,
    /// The add-on.
    pub app: AppId,
    /// The extension that wrote it, and can read it.
    pub extension: ExtensionId,
    /// What it holds.
    pub digest: Digest,
    /// How much that is.
    pub bytes: u64,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

fn backup(row: &Columns<'_>) -> Result<Backup, StoreError> {
    Ok(Backup {
        id: row.parsed("id")?,
        app: row.parsed("app_id")?,
        extension: row.parsed("extension")?,
        digest: row.parsed("digest")?,
        bytes: row.number("bytes")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

impl Store {
    /// The backups of an add-on, newest first; at most [`BACKUPS_MAX`].
    ///
    /// # Errors
    /// What the database says.
    pub async fn backups(&self, addon: AppId) -> Result<Vec<Backup>, StoreError> {
        let rows = sqlx::query("SELECT * FROM addon_backups WHERE app_id = $1 ORDER BY id DESC")
            .bind(addon.to_string())
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(|row| backup(&Columns(row))).collect()
    }

    /// One backup.
    ///
    /// # Errors
    /// What the database says.
    pub async fn backup(&self, id: BackupId) -> Result<Option<Backup>, StoreError> {
        let row = sqlx::query("SELECT * FROM addon_backups WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| backup(&Columns(&row))).transpose()
    }

    /// Keeps a backup whose blob is written; nothing when there are [`BACKUPS_MAX`] already.
    ///
    /// # Errors
    /// What the database says.
    pub async fn create_backup(
        &self,
        addon: AppId,
        extension: &ExtensionId,
        (digest, bytes): (Digest, u64),
        by: &By,
    ) -> Result<Option<Backup>, StoreError> {
        let mut write = self.write(by).await?;
        let team = team_of(write.db(), addon).await?;
        let row = sqlx::query("SELECT count(*) AS count FROM addon_backups WHERE app_id = $1")
            .bind(addon.to_string())
            .fetch_one(write.db())
            .await?;
        if Columns(&row).number::<usize>("count")? >= BACKUPS_MAX {
            return Ok(None);
        }
        let made = Backup {
            id: BackupId::new(id_time(by.at_ms), random()?),
            app: addon,
            extension: extension.clone(),
            digest,
            bytes,
            created_at_ms: by.at_ms,
        };
        sqlx::query(
            "INSERT INTO addon_backups (id, app_id, extension, digest, bytes, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(made.id.to_string())
        .bind(addon.to_string())
        .bind(extension.as_str())
        .bind(digest.to_string())
        .bind(to_int("bytes", bytes)?)
        .bind(made.created_at_ms)
        .execute(write.db())
        .await?;
        let after = json!({ "backup": made.id, "digest": digest, "bytes": bytes });
        write.finish(event("addon.backed_up", addon, team, Value::Null, after)).await?;
        Ok(Some(made))
    }

    /// Forgets a backup; what it holds goes with the next collection.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove_backup(&self, gone: &Backup, by: &By) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let team = team_of(write.db(), gone.app).await?;
        sqlx::query("DELETE FROM addon_backups WHERE id = $1")
            .bind(gone.id.to_string())
            .execute(write.db())
            .await?;
        let before = json!({ "backup": gone.id, "digest": gone.digest });
        write
            .finish(event("addon.backup_removed", gone.app, team, before, Value::Null))
            .await
            .map(drop)
    }

    /// Writes down that a backup was read back into an add-on.
    ///
    /// # Errors
    /// What the database says.
    pub async fn backup_restored(
        &self,
        addon: AppId,
        from: &Backup,
        by: &By,
    ) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let team = team_of(write.db(), addon).await?;
        let after = json!({ "backup": from.id, "digest": from.digest });
        write.finish(event("addon.restored", addon, team, Value::Null, after)).await.map(drop)
    }

    /// Apps that are attached to an add-on, by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn attached(&self, addon: AppId) -> Result<Vec<berth_model::AppName>, StoreError> {
        let mut tx = self.read().await?;
        crate::changes::load::attached(&mut tx, addon).await
    }

    /// Keeps an image that no build made. It goes with the next sweep unless a release has it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn put_image(&self, image: &Image, at_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        images::put(&mut tx, image, at_ms).await?;
        Ok(tx.commit().await?)
    }
}

fn event(
    kind: &'static str,
    addon: AppId,
    team: Option<berth_model::TeamId>,
    before: Value,
    after: Value,
) -> NewEvent<'static> {
    NewEvent { kind, subject: addon.to_string(), app: Some(addon), team, before, after }
}
