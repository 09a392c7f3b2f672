//! Buildpacks that operators added, and the order in which buildpacks are tried.

use berth_model::buildpack::{BuildpackGroup, BuildpackManifest};
use berth_model::{BuildpackId, Digest};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use crate::events::NewEvent;
use crate::row::{Columns, to_json};
use crate::{By, Store, StoreError};

/// A buildpack that an operator added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedBuildpack {
    /// The component, which is a blob.
    pub component: Digest,
    /// The manifest inside it.
    pub manifest: BuildpackManifest,
    /// When it was first added, Unix milliseconds.
    pub added_at_ms: i64,
    /// When this component came, Unix milliseconds.
    pub changed_at_ms: i64,
}

impl AddedBuildpack {
    /// What events show of it.
    fn shown(&self) -> Value {
        json!({
            "id": self.manifest.id,
            "version": self.manifest.version,
            "component": self.component,
        })
    }
}

fn buildpack(row: &Columns<'_>) -> Result<AddedBuildpack, StoreError> {
    Ok(AddedBuildpack {
        component: row.parsed("component")?,
        manifest: row.json("manifest")?,
        added_at_ms: row.int("added_at_ms")?,
        changed_at_ms: row.int("changed_at_ms")?,
    })
}

async fn find(
    db: &mut SqliteConnection,
    id: &BuildpackId,
) -> Result<Option<AddedBuildpack>, StoreError> {
    let row = sqlx::query("SELECT * FROM buildpacks WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(db)
        .await?;
    row.map(|row| buildpack(&Columns(&row))).transpose()
}

async fn order(db: &mut SqliteConnection) -> Result<Vec<BuildpackGroup>, StoreError> {
    let rows =
        sqlx::query("SELECT members FROM buildpack_order ORDER BY place").fetch_all(db).await?;
    rows.iter().map(|row| Columns(row).parsed("members")).collect()
}

async fn write_order(
    db: &mut SqliteConnection,
    groups: &[BuildpackGroup],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM buildpack_order").execute(&mut *db).await?;
    for (place, group) in (0_i64..).zip(groups) {
        sqlx::query("INSERT INTO buildpack_order (place, members) VALUES ($1, $2)")
            .bind(place)
            .bind(group.to_string())
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

impl Store {
    /// The buildpacks that were added, the newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn buildpacks(&self) -> Result<Vec<AddedBuildpack>, StoreError> {
        let rows = sqlx::query("SELECT * FROM buildpacks ORDER BY added_at_ms DESC, id")
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(|row| buildpack(&Columns(row))).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// What the database says.
    pub async fn buildpack(&self, id: &BuildpackId) -> Result<Option<AddedBuildpack>, StoreError> {
        let mut tx = self.read().await?;
        find(&mut tx, id).await
    }

    /// Adds a buildpack, or puts another component in the place of one that was added, together
    /// with the order that holds from then on.
    ///
    /// # Errors
    /// What the database says.
    pub async fn put_buildpack(
        &self,
        new: &AddedBuildpack,
        order: &[BuildpackGroup],
        by: &By,
    ) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let before = find(write.db(), &new.manifest.id).await?;
        sqlx::query(
            "INSERT INTO buildpacks (id, component, manifest, added_at_ms, changed_at_ms)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE SET component = excluded.component,
               manifest = excluded.manifest, changed_at_ms = excluded.changed_at_ms",
        )
        .bind(new.manifest.id.as_str())
        .bind(new.component.to_string())
        .bind(to_json("manifest", &new.manifest)?)
        .bind(new.added_at_ms)
        .bind(new.changed_at_ms)
        .execute(write.db())
        .await?;
        write_order(write.db(), order).await?;
        let event = NewEvent {
            kind: if before.is_none() { "buildpack.added" } else { "buildpack.changed" },
            subject: new.manifest.id.to_string(),
            app: None,
            team: None,
            before: before.map_or(Value::Null, |old| old.shown()),
            after: new.shown(),
        };
        write.finish(event).await.map(drop)
    }

    /// Removes a buildpack that was added, together with the order that holds from then on; false
    /// when it was not there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove_buildpack(
        &self,
        id: &BuildpackId,
        order: &[BuildpackGroup],
        by: &By,
    ) -> Result<bool, StoreError> {
        let mut write = self.write(by).await?;
        let Some(before) = find(write.db(), id).await? else {
            return Ok(false);
        };
        sqlx::query("DELETE FROM buildpacks WHERE id = $1")
            .bind(id.as_str())
            .execute(write.db())
            .await?;
        write_order(write.db(), order).await?;
        let event = NewEvent {
            kind: "buildpack.removed",
            subject: id.to_string(),
            app: None,
            team: None,
            before: before.shown(),
            after: Value::Null,
        };
        write.finish(event).await?;
        Ok(true)
    }

    /// The groups that an operator set; nothing where the usual ones are tried.
    ///
    /// # Errors
    /// What the database says.
    pub async fn buildpack_order(&self) -> Result<Vec<BuildpackGroup>, StoreError> {
        let mut tx = self.read().await?;
        order(&mut tx).await
    }

    /// Sets the groups; with none, the usual ones are tried again.
    ///
    /// # Errors
    /// What the database says.
    pub async fn set_buildpack_order(
        &self,
        groups: &[BuildpackGroup],
        by: &By,
    ) -> Result<(), StoreError> {
        let shown = |groups: &[BuildpackGroup]| -> Value {
            groups.iter().map(|group| Value::String(group.to_string())).collect()
        };
        let mut write = self.write(by).await?;
        let before = order(write.db()).await?;
        write_order(write.db(), groups).await?;
        let event = NewEvent {
            kind: "buildpack.order",
            subject: "buildpacks".to_owned(),
            app: None,
            team: None,
            before: shown(&before),
            after: shown(groups),
        };
        write.finish(event).await.map(drop)
    }
}
