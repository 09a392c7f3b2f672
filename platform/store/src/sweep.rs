//! Forgets what is old, so that the database stays bounded, and names the blobs that are in use.

use std::collections::BTreeSet;

use berth_model::{Digest, LayerRef, Manifest, Runtime};

use crate::row::Columns;
use crate::{Store, StoreError};

const DAY_MS: i64 = 86_400_000;
/// Answers to requests with an `Idempotency-Key` are kept this long.
const IDEMPOTENCY_MS: i64 = DAY_MS;
/// Events are kept this long, and never more than so many.
const EVENTS_MS: i64 = 90 * DAY_MS;
const EVENTS_MAX: i64 = 500_000;
/// Builds per app with their output.
const BUILDS_KEPT: i64 = 50;
/// Instances per app that are gone; one-off commands are among them.
const INSTANCES_KEPT: i64 = 200;

/// How many rows were forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Answers to requests.
    pub answers: u64,
    /// Events.
    pub events: u64,
    /// Builds with their output.
    pub builds: u64,
    /// Instances that are gone.
    pub instances: u64,
    /// Images that no build and no release has.
    pub images: u64,
}

impl Store {
    /// Forgets what is old. Releases, configurations and whatever runs are never forgotten.
    ///
    /// # Errors
    /// What the database says.
    pub async fn sweep(&self, at_ms: i64) -> Result<Swept, StoreError> {
        let mut tx = self.begin().await?;
        let answers = sqlx::query("DELETE FROM idempotency WHERE created_at_ms < $1")
            .bind(at_ms - IDEMPOTENCY_MS)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        let events = sqlx::query(
            "DELETE FROM events WHERE at_ms < $1 OR seq <= (SELECT max(seq) FROM events) - $2",
        )
        .bind(at_ms - EVENTS_MS)
        .bind(EVENTS_MAX)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        // Nobody can be told of an event that is not known any more.
        sqlx::query("DELETE FROM deliveries WHERE event_seq NOT IN (SELECT seq FROM events)")
            .execute(&mut *tx)
            .await?;
        let builds = sqlx::query(
            "DELETE FROM builds WHERE state <> 'running' AND id IN
               (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY app_id ORDER BY id DESC) AS nth
                                FROM builds) AS numbered
                WHERE nth > $1)",
        )
        .bind(BUILDS_KEPT)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        // A row that still counts against a deployment on its way is kept.
        let instances = sqlx::query(
            "DELETE FROM instances WHERE stopped_at_ms IS NOT NULL AND address IS NULL
               AND id IN
                 (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY app_id ORDER BY id DESC) AS nth
                                  FROM instances WHERE stopped_at_ms IS NOT NULL) AS numbered
                  WHERE nth > $1)
               AND (deployment_id IS NULL OR deployment_id NOT IN
                    (SELECT id FROM deployments WHERE finished_at_ms IS NULL))",
        )
        .bind(INSTANCES_KEPT)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        let images = sqlx::query(
            "DELETE FROM images
             WHERE digest NOT IN (SELECT image FROM releases)
               AND digest NOT IN (SELECT image FROM builds WHERE image IS NOT NULL)
               AND digest NOT IN (SELECT image FROM build_memo)",
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(Swept { answers, events, builds, instances, images })
    }

    /// Every blob that a row names: images, their layers and components, sources of builds, stacks,
    /// backups of add-ons, buildpacks that were added.
    /// Digests inside an app's layer metadata are not among them.
    ///
    /// # Errors
    /// What the database says.
    pub async fn blobs_in_use(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut tx = self.read().await?;
        let mut used = BTreeSet::new();
        for row in
            &sqlx::query("SELECT digest, layers, manifest FROM images").fetch_all(&mut *tx).await?
        {
            let row = Columns(row);
            used.insert(row.parsed("digest")?);
            let layers: Vec<LayerRef> = row.json("layers")?;
            used.extend(layers.iter().map(|layer| layer.diff_id));
            let manifest: Manifest = row.json("manifest")?;
            if let Runtime::Wasm { component } = manifest.runtime {
                used.insert(component);
            }
        }
        for row in &sqlx::query("SELECT DISTINCT source FROM builds").fetch_all(&mut *tx).await? {
            used.insert(Columns(row).parsed("source")?);
        }
        for row in
            &sqlx::query("SELECT DISTINCT digest FROM addon_backups").fetch_all(&mut *tx).await?
        {
            used.insert(Columns(row).parsed("digest")?);
        }
        for row in &sqlx::query("SELECT run, build FROM stacks").fetch_all(&mut *tx).await? {
            for column in ["run", "build"] {
                let layer: LayerRef = Columns(row).json(column)?;
                used.insert(layer.diff_id);
            }
        }
        for row in
            &sqlx::query("SELECT component, waiting FROM extensions").fetch_all(&mut *tx).await?
        {
            used.insert(Columns(row).parsed("component")?);
            let waiting: Option<crate::ExtensionVersion> = Columns(row).opt_json("waiting")?;
            used.extend(waiting.map(|version| version.component));
        }
        for row in &sqlx::query("SELECT component FROM buildpacks").fetch_all(&mut *tx).await? {
            used.insert(Columns(row).parsed("component")?);
        }
        Ok(used)
    }
}
