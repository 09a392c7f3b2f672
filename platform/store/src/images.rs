//! Images that builds made, and what a release's containers are started from.

use berth_model::image::Image;
use berth_model::{Digest, ReleaseId};
use sqlx::sqlite::SqliteConnection;

use crate::row::{Columns, to_json};
use crate::{Store, StoreError, config, releases};

fn image(row: &Columns<'_>) -> Result<Image, StoreError> {
    Ok(Image {
        digest: row.parsed("digest")?,
        layers: row.json("layers")?,
        env: row.json("env")?,
        manifest: row.json("manifest")?,
    })
}

/// Writes an image; the same digest is the same image.
pub(crate) async fn put(
    db: &mut SqliteConnection,
    image: &Image,
    at_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO images (digest, layers, env, manifest, created_at_ms)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (digest) DO NOTHING",
    )
    .bind(image.digest.to_string())
    .bind(to_json("layers", &image.layers)?)
    .bind(to_json("env", &image.env)?)
    .bind(to_json("manifest", &image.manifest)?)
    .bind(at_ms)
    .execute(db)
    .await?;
    Ok(())
}

async fn by_digest(db: &mut SqliteConnection, digest: Digest) -> Result<Option<Image>, StoreError> {
    let row = sqlx::query("SELECT * FROM images WHERE digest = $1")
        .bind(digest.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| image(&Columns(&row))).transpose()
}

impl Store {
    /// An image.
    ///
    /// # Errors
    /// What the database says.
    pub async fn image(&self, digest: Digest) -> Result<Option<Image>, StoreError> {
        let mut tx = self.read().await?;
        by_digest(&mut tx, digest).await
    }

    /// The image of a release and the values of its configuration.
    ///
    /// # Errors
    /// `Missing`, and what the database says.
    pub async fn launch(
        &self,
        id: ReleaseId,
    ) -> Result<(Image, Vec<(String, String)>), StoreError> {
        let missing = |what, name| StoreError::Missing { what, name };
        let mut tx = self.read().await?;
        let release = releases::by_id(&mut tx, id)
            .await?
            .ok_or_else(|| missing("release", id.to_string()))?;
        let image = by_digest(&mut tx, release.image)
            .await?
            .ok_or_else(|| missing("image", release.image.to_string()))?;
        let values =
            config::values(&mut tx, self.sealer(), release.app, release.config_version).await?;
        let values = values
            .iter()
            .map(|(name, value)| (name.to_string(), value.reveal().to_owned()))
            .collect();
        Ok((image, values))
    }
}
