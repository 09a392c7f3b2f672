//! Instances, and one moment's view of an app for its reconciler.

use berth_model::{App, AppId, Deployment, InstanceId, InstanceRecord, Release, ReleaseId, Volume};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use crate::apps::{existing, team_of};
use crate::events::NewEvent;
use crate::row::{Columns, to_int, to_json};
use crate::{By, Store, StoreError, deployments, releases, volumes};

/// Everything that decides what an app's instances do next, read at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The app.
    pub app: App,
    /// The release of `app.current_release`.
    pub current: Option<Release>,
    /// Deployments that are not finished, oldest first, each with its release.
    pub deployments: Vec<(Deployment, Release)>,
    /// Instances that are not in a final state, or still hold an address, or were created by one
    /// of `deployments`.
    pub instances: Vec<InstanceRecord>,
    /// The app's volumes, by name.
    pub volumes: Vec<Volume>,
}

pub(crate) fn instance(row: &Columns<'_>) -> Result<InstanceRecord, StoreError> {
    Ok(InstanceRecord {
        id: row.parsed("id")?,
        app: row.parsed("app_id")?,
        release: row.parsed("release_id")?,
        deployment: row.opt_parsed("deployment_id")?,
        process: row.parsed("process")?,
        slot: row.number("slot")?,
        role: row.word("role")?,
        restarts: row.number("restarts")?,
        state: row.word("state")?,
        address: row.opt_json("address")?,
        answering: row.opt_number("answering")?,
        exit_code: row.opt_number("exit_code")?,
        error: row.opt_text("error")?,
        created_at_ms: row.int("created_at_ms")?,
        ready_at_ms: row.opt_int("ready_at_ms")?,
        draining_at_ms: row.opt_int("draining_at_ms")?,
        stopped_at_ms: row.opt_int("stopped_at_ms")?,
    })
}

async fn by_id(
    db: &mut SqliteConnection,
    id: InstanceId,
) -> Result<Option<InstanceRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM instances WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| instance(&Columns(&row))).transpose()
}

async fn put(db: &mut SqliteConnection, record: &InstanceRecord) -> Result<(), StoreError> {
    let address = record.address.as_ref().map(|address| to_json("address", address)).transpose()?;
    sqlx::query(
        "INSERT INTO instances
           (id, app_id, release_id, deployment_id, process, slot, role, restarts, state, address,
            answering, exit_code, error, created_at_ms, ready_at_ms, draining_at_ms, stopped_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
         ON CONFLICT (id) DO UPDATE SET
           release_id = excluded.release_id, deployment_id = excluded.deployment_id,
           process = excluded.process, slot = excluded.slot, role = excluded.role,
           restarts = excluded.restarts, state = excluded.state, address = excluded.address,
           answering = excluded.answering, exit_code = excluded.exit_code, error = excluded.error,
           ready_at_ms = excluded.ready_at_ms, draining_at_ms = excluded.draining_at_ms,
           stopped_at_ms = excluded.stopped_at_ms",
    )
    .bind(record.id.to_string())
    .bind(record.app.to_string())
    .bind(record.release.to_string())
    .bind(record.deployment.map(|id| id.to_string()))
    .bind(record.process.as_str())
    .bind(i64::from(record.slot))
    .bind(record.role.as_str())
    .bind(to_int("restarts", record.restarts)?)
    .bind(record.state.as_str())
    .bind(address)
    .bind(record.answering.map(i64::from))
    .bind(record.exit_code.map(i64::from))
    .bind(&record.error)
    .bind(record.created_at_ms)
    .bind(record.ready_at_ms)
    .bind(record.draining_at_ms)
    .bind(record.stopped_at_ms)
    .execute(db)
    .await?;
    Ok(())
}

fn shown(record: &InstanceRecord) -> Value {
    json!({
        "name": record.label(),
        "role": record.role,
        "release": record.release,
        "deployment": record.deployment,
        "state": record.state,
        "answering": record.answering,
        "exit_code": record.exit_code,
        "error": record.error,
    })
}

fn event(
    before: Option<&InstanceRecord>,
    after: &InstanceRecord,
    team: Option<berth_model::TeamId>,
) -> NewEvent<'static> {
    NewEvent {
        kind: if before.is_some() { "instance.changed" } else { "instance.created" },
        subject: after.id.to_string(),
        app: Some(after.app),
        team,
        before: before.map_or(Value::Null, shown),
        after: shown(after),
    }
}

impl Store {
    /// An instance, in whatever state.
    ///
    /// # Errors
    /// What the database says.
    pub async fn instance(&self, id: InstanceId) -> Result<Option<InstanceRecord>, StoreError> {
        let mut tx = self.read().await?;
        by_id(&mut tx, id).await
    }

    /// Inserts an instance, or replaces the one with its id. What is there already writes nothing.
    ///
    /// # Errors
    /// `Backwards` when its state would go back; what the database says.
    pub async fn put_instance(&self, record: &InstanceRecord, by: &By) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let before = by_id(write.db(), record.id).await?;
        if let Some(before) = &before {
            if before == record {
                return Ok(());
            }
            let (from, to) = (before.state, record.state);
            if to < from || (from.is_terminal() && to != from) {
                return Err(StoreError::Backwards {
                    what: "instance",
                    id: record.id.to_string(),
                    from: from.as_str(),
                    to: to.as_str(),
                });
            }
        }
        put(write.db(), record).await?;
        let team = team_of(write.db(), record.app).await?;
        write.finish(event(before.as_ref(), record, team)).await.map(drop)
    }

    /// Instances of an app that are not in a final state or still hold an address, destroyed or
    /// not, in the order of their names.
    ///
    /// # Errors
    /// What the database says.
    pub async fn live_instances(&self, app: AppId) -> Result<Vec<InstanceRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM instances
             WHERE app_id = $1 AND (stopped_at_ms IS NULL OR address IS NOT NULL)
             ORDER BY process, slot, id",
        )
        .bind(app.to_string())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| instance(&Columns(row))).collect()
    }

    /// At most `limit` instances of an app before an id, newest first, whether they are over or not:
    /// one-off commands, or all.
    ///
    /// # Errors
    /// What the database says.
    pub async fn instances(
        &self,
        app: AppId,
        runs_only: bool,
        before: Option<InstanceId>,
        limit: u32,
    ) -> Result<Vec<InstanceRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM instances
             WHERE app_id = $1 AND ($2 = 0 OR role IN ('run', 'detached')) AND ($3 IS NULL OR id < $3)
             ORDER BY id DESC LIMIT $4",
        )
        .bind(app.to_string())
        .bind(i64::from(runs_only))
        .bind(before.map(|id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| instance(&Columns(row))).collect()
    }

    /// Everything that decides what an app's instances do next; nothing when it was destroyed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn snapshot(&self, id: AppId) -> Result<Option<Snapshot>, StoreError> {
        let mut tx = self.read().await?;
        let Some(app) = existing(&mut tx, id).await? else { return Ok(None) };
        let current = match app.current_release {
            Some(release) => releases::by_id(&mut tx, release).await?,
            None => None,
        };
        let deployments = unfinished(&mut tx, id).await?;
        let rows = sqlx::query(
            "SELECT * FROM instances
             WHERE app_id = $1
               AND (stopped_at_ms IS NULL OR address IS NOT NULL OR deployment_id IN
                    (SELECT id FROM deployments WHERE app_id = $1 AND finished_at_ms IS NULL))
             ORDER BY id",
        )
        .bind(id.to_string())
        .fetch_all(&mut *tx)
        .await?;
        let instances = rows.iter().map(|row| instance(&Columns(row))).collect::<Result<_, _>>()?;
        let volumes = volumes::of_app(&mut tx, id).await?;
        Ok(Some(Snapshot { app, current, deployments, instances, volumes }))
    }
}

async fn unfinished(
    db: &mut SqliteConnection,
    app: AppId,
) -> Result<Vec<(Deployment, Release)>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM deployments WHERE app_id = $1 AND finished_at_ms IS NULL ORDER BY number",
    )
    .bind(app.to_string())
    .fetch_all(&mut *db)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let deployment = deployments::deployment(&Columns(row))?;
        let id: ReleaseId = deployment.release;
        let release = releases::by_id(db, id)
            .await?
            .ok_or_else(|| StoreError::Missing { what: "release", name: id.to_string() })?;
        found.push((deployment, release));
    }
    Ok(found)
}
