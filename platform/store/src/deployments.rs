//! Deployments: states that only go forward, each step durable before it is taken.

use berth_model::{AppId, Deployment, DeploymentId, DeploymentState, ReleaseId, TeamId};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use crate::apps::team_of;
use crate::events::NewEvent;
use crate::row::Columns;
use crate::store::{id_time, random};
use crate::{By, Store, StoreError};

pub(crate) fn deployment(row: &Columns<'_>) -> Result<Deployment, StoreError> {
    Ok(Deployment {
        id: row.parsed("id")?,
        app: row.parsed("app_id")?,
        release: row.parsed("release_id")?,
        state: row.word("state")?,
        rollback: row.int("rollback")? != 0,
        previous: row.opt_parsed("previous_id")?,
        error: row.opt_text("error")?,
        created_at_ms: row.int("created_at_ms")?,
        changed_at_ms: row.int("changed_at_ms")?,
        finished_at_ms: row.opt_int("finished_at_ms")?,
    })
}

async fn by_id(
    db: &mut SqliteConnection,
    id: DeploymentId,
) -> Result<Option<Deployment>, StoreError> {
    let row = sqlx::query("SELECT * FROM deployments WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| deployment(&Columns(&row))).transpose()
}

pub(crate) async fn insert(db: &mut SqliteConnection, new: &Deployment) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO deployments
           (id, app_id, number, release_id, state, rollback, previous_id, error, created_at_ms,
            changed_at_ms, finished_at_ms)
         VALUES ($1, $2, (SELECT coalesce(max(number), 0) + 1 FROM deployments WHERE app_id = $2),
                 $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(new.id.to_string())
    .bind(new.app.to_string())
    .bind(new.release.to_string())
    .bind(new.state.as_str())
    .bind(i64::from(new.rollback))
    .bind(new.previous.map(|id| id.to_string()))
    .bind(&new.error)
    .bind(new.created_at_ms)
    .bind(new.changed_at_ms)
    .bind(new.finished_at_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// The deployment to move, unless it is where it should be already.
async fn movable(
    db: &mut SqliteConnection,
    id: DeploymentId,
    to: DeploymentState,
) -> Result<Option<Deployment>, StoreError> {
    let found = by_id(db, id)
        .await?
        .ok_or_else(|| StoreError::Missing { what: "deployment", name: id.to_string() })?;
    if found.state == to {
        return Ok(None);
    }
    if !found.state.may_become(to) {
        return Err(StoreError::Backwards {
            what: "deployment",
            id: id.to_string(),
            from: found.state.as_str(),
            to: to.as_str(),
        });
    }
    Ok(Some(found))
}

async fn update(db: &mut SqliteConnection, new: &Deployment) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deployments
         SET state = $2, previous_id = $3, error = $4, changed_at_ms = $5, finished_at_ms = $6
         WHERE id = $1",
    )
    .bind(new.id.to_string())
    .bind(new.state.as_str())
    .bind(new.previous.map(|id| id.to_string()))
    .bind(&new.error)
    .bind(new.changed_at_ms)
    .bind(new.finished_at_ms)
    .execute(db)
    .await?;
    Ok(())
}

fn shown(deployment: &Deployment) -> Value {
    json!({
        "state": deployment.state,
        "release": deployment.release,
        "previous": deployment.previous,
        "rollback": deployment.rollback,
        "error": deployment.error,
    })
}

fn changed(before: &Deployment, after: &Deployment, team: Option<TeamId>) -> NewEvent<'static> {
    NewEvent {
        kind: "deployment.changed",
        subject: after.id.to_string(),
        app: Some(after.app),
        team,
        before: shown(before),
        after: shown(after),
    }
}

impl Store {
    /// A deployment.
    ///
    /// # Errors
    /// What the database says.
    pub async fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>, StoreError> {
        let mut tx = self.read().await?;
        by_id(&mut tx, id).await
    }

    /// At most `limit` deployments of an app that were queued before another, newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn deployments(
        &self,
        app: AppId,
        before: Option<DeploymentId>,
        limit: u32,
    ) -> Result<Vec<Deployment>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM deployments
             WHERE app_id = $1
               AND ($2 IS NULL OR number < (SELECT number FROM deployments WHERE id = $2))
             ORDER BY number DESC LIMIT $3",
        )
        .bind(app.to_string())
        .bind(before.map(|id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| deployment(&Columns(row))).collect()
    }

    /// The newest deployment of a release.
    ///
    /// # Errors
    /// What the database says.
    pub async fn deployment_of(
        &self,
        release: ReleaseId,
    ) -> Result<Option<Deployment>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM deployments WHERE release_id = $1 ORDER BY number DESC LIMIT 1",
        )
        .bind(release.to_string())
        .fetch_optional(self.readers())
        .await?;
        row.map(|row| deployment(&Columns(&row))).transpose()
    }

    /// Moves a deployment forward to a state that is not final. Being there already is fine.
    ///
    /// # Errors
    /// `Backwards`, `Missing`, and what the database says.
    pub async fn advance_deployment(
        &self,
        id: DeploymentId,
        to: DeploymentState,
        by: &By,
    ) -> Result<(), StoreError> {
        self.end_or_move(id, to, None, by).await
    }

    /// Ends a deployment. Having ended so already is fine.
    ///
    /// # Errors
    /// `Backwards`, `Missing`, and what the database says.
    pub async fn finish_deployment(
        &self,
        id: DeploymentId,
        state: DeploymentState,
        error: Option<String>,
        by: &By,
    ) -> Result<(), StoreError> {
        self.end_or_move(id, state, error, by).await
    }

    async fn end_or_move(
        &self,
        id: DeploymentId,
        to: DeploymentState,
        error: Option<String>,
        by: &By,
    ) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let Some(before) = movable(write.db(), id, to).await? else { return Ok(()) };
        let after = Deployment {
            state: to,
            error,
            changed_at_ms: by.at_ms,
            finished_at_ms: to.is_terminal().then_some(by.at_ms),
            ..before.clone()
        };
        update(write.db(), &after).await?;
        let team = team_of(write.db(), after.app).await?;
        write.finish(changed(&before, &after, team)).await.map(drop)
    }

    /// The switch: the deployment becomes `Switching`, its `previous` the app's current release,
    /// and its release the app's current one. Done already is fine.
    ///
    /// # Errors
    /// `Backwards`, `Missing`, and what the database says.
    pub async fn switch_deployment(&self, id: DeploymentId, by: &By) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let Some(before) = movable(write.db(), id, DeploymentState::Switching).await? else {
            return Ok(());
        };
        let row = sqlx::query("SELECT team_id, current_release_id FROM apps WHERE id = $1")
            .bind(before.app.to_string())
            .fetch_one(write.db())
            .await?;
        let after = Deployment {
            state: DeploymentState::Switching,
            previous: Columns(&row).opt_parsed("current_release_id")?,
            changed_at_ms: by.at_ms,
            ..before.clone()
        };
        update(write.db(), &after).await?;
        sqlx::query(
            "UPDATE apps SET current_release_id = $2, generation = generation + 1 WHERE id = $1",
        )
        .bind(after.app.to_string())
        .bind(after.release.to_string())
        .execute(write.db())
        .await?;
        let team = Columns(&row).parsed("team_id")?;
        write.finish(changed(&before, &after, Some(team))).await.map(drop)
    }

    /// The deployment becomes `RolledBack`, and a new one of its previous release is queued. Done
    /// already is fine; without a previous release the deployment only ends.
    ///
    /// # Errors
    /// `Backwards`, `Missing`, and what the database says.
    pub async fn roll_back_deployment(
        &self,
        id: DeploymentId,
        error: String,
        by: &By,
    ) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let to = DeploymentState::RolledBack;
        let Some(before) = movable(write.db(), id, to).await? else { return Ok(()) };
        let after = Deployment {
            state: to,
            error: Some(error),
            changed_at_ms: by.at_ms,
            finished_at_ms: Some(by.at_ms),
            ..before.clone()
        };
        update(write.db(), &after).await?;
        let team = team_of(write.db(), after.app).await?;
        let mut event = changed(&before, &after, team);
        if let Some(previous) = after.previous {
            let back = Deployment {
                id: DeploymentId::new(id_time(by.at_ms), random()?),
                app: after.app,
                release: previous,
                state: DeploymentState::Queued,
                rollback: true,
                previous: None,
                error: None,
                created_at_ms: by.at_ms,
                changed_at_ms: by.at_ms,
                finished_at_ms: None,
            };
            insert(write.db(), &back).await?;
            event.after["queued"] = json!(back.id);
        }
        write.finish(event).await.map(drop)
    }
}
