//! What spares an app's next build some work: metadata of its layers, and whole builds that had the
//! same inputs. Per app, so that no app learns what another one built.

use berth_model::{AppId, Digest};
use serde_json::Value;
use sqlx::sqlite::SqliteConnection;

use crate::row::Columns;
use crate::{Store, StoreError};

/// Most builds that are remembered per app.
const MEMOS_MAX: i64 = 50;

pub(crate) async fn put(
    db: &mut SqliteConnection,
    app: AppId,
    layers: Option<&Value>,
    memo: Option<(Digest, Digest)>,
    at_ms: i64,
) -> Result<(), StoreError> {
    if let Some(layers) = layers {
        sqlx::query(
            "INSERT INTO app_layers (app_id, metadata) VALUES ($1, $2)
             ON CONFLICT (app_id) DO UPDATE SET metadata = excluded.metadata",
        )
        .bind(app.to_string())
        .bind(layers.to_string())
        .execute(&mut *db)
        .await?;
    }
    if let Some((key, image)) = memo {
        sqlx::query(
            "INSERT INTO build_memo (app_id, key, image, created_at_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (app_id, key)
             DO UPDATE SET image = excluded.image, created_at_ms = excluded.created_at_ms",
        )
        .bind(app.to_string())
        .bind(key.to_string())
        .bind(image.to_string())
        .bind(at_ms)
        .execute(&mut *db)
        .await?;
        sqlx::query(
            "DELETE FROM build_memo WHERE app_id = $1 AND key NOT IN
               (SELECT key FROM build_memo WHERE app_id = $1
                ORDER BY created_at_ms DESC, key LIMIT $2)",
        )
        .bind(app.to_string())
        .bind(MEMOS_MAX)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

impl Store {
    /// What the last successful build of an app left for the next one.
    ///
    /// # Errors
    /// What the database says.
    pub async fn layer_metadata(&self, app: AppId) -> Result<Option<Value>, StoreError> {
        let row = sqlx::query("SELECT metadata FROM app_layers WHERE app_id = $1")
            .bind(app.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| Columns(&row).json("metadata")).transpose()
    }

    /// The image of a build of this app that had the same inputs.
    ///
    /// # Errors
    /// What the database says.
    pub async fn memo(&self, app: AppId, key: Digest) -> Result<Option<Digest>, StoreError> {
        let row = sqlx::query("SELECT image FROM build_memo WHERE app_id = $1 AND key = $2")
            .bind(app.to_string())
            .bind(key.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| Columns(&row).parsed("image")).transpose()
    }
}
