//! Applies a plan: its effects, the generation and the event, in one transaction.

use berth_model::plan::{Effect, NewRelease, Plan};
use berth_model::{
    App, AppId, AppName, AppSettings, BuildId, Deployment, DeploymentId, DeploymentState, Domain,
    DomainId, Release, ReleaseId, TeamId,
};
use serde_json::{Value, json};

use super::{Committed, expect};
use crate::events::NewEvent;
use crate::row::{to_int, to_json};
use crate::store::{Write, id_time, random};
use crate::{Store, StoreError, config, deployments, releases, volumes};

/// What comes into being while the effects are applied.
struct Progress {
    app: App,
    release: Option<Release>,
    deployment: Option<Deployment>,
    destroyed: bool,
}

pub(super) async fn apply(
    store: &Store,
    mut write: Write,
    plan: Plan,
    expected: u64,
    build: Option<BuildId>,
) -> Result<Committed, StoreError> {
    let (before, mut app) = match plan.app {
        Some(id) => {
            let app = expect(write.db(), id, expected).await?;
            (shown(&app), app)
        }
        None => (Value::Null, create(&mut write, &plan).await?),
    };
    if plan.is_empty() {
        return Ok(Committed { plan, app, release: None, deployment: None });
    }
    if plan.app.is_some() {
        app.generation += 1;
    }
    let mut progress = Progress { app, release: None, deployment: None, destroyed: false };
    configure(store, &mut write, &plan, progress.app.id).await?;
    for effect in &plan.changes {
        one(&mut write, effect, &mut progress).await?;
    }
    update(&mut write, &progress).await?;
    if let (Some(build), Some(deployment)) = (build, &progress.deployment) {
        released(&mut write, build, deployment.id).await?;
    }
    let Progress { app, release, deployment, destroyed, .. } = progress;
    let mut after = if destroyed { json!({}) } else { shown(&app) };
    after["changes"] = json!(plan.changes.iter().map(ToString::to_string).collect::<Vec<_>>());
    if let Some(release) = &release {
        after["new_release"] = json!(release.number);
    }
    if let Some(deployment) = &deployment {
        after["deployment"] = json!(deployment.id);
    }
    let event = NewEvent {
        kind: plan.kind,
        subject: app.id.to_string(),
        app: Some(app.id),
        team: Some(app.team),
        before,
        after,
    };
    write.finish(event).await?;
    Ok(Committed { plan, app, release, deployment })
}

/// The build keeps what became of its image.
async fn released(
    write: &mut Write,
    build: BuildId,
    deployment: DeploymentId,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE builds SET deployment_id = $2 WHERE id = $1")
        .bind(build.to_string())
        .bind(deployment.to_string())
        .execute(write.db())
        .await?;
    Ok(())
}

/// What events tell of an app.
fn shown(app: &App) -> Value {
    json!({
        "name": app.name,
        "team": app.team,
        "generation": app.generation,
        "settings": app.settings,
        "current_release": app.current_release,
    })
}

async fn create(write: &mut Write, plan: &Plan) -> Result<App, StoreError> {
    let Some(Effect::CreateApp { name, team, block }) = plan.changes.first() else {
        return Err(berth_model::plan::Refusal::NoApp.into());
    };
    let at_ms = write.by().at_ms;
    let app = App {
        id: AppId::new(id_time(at_ms), random()?),
        name: name.clone(),
        team: *team,
        block: *block,
        settings: AppSettings::default(),
        current_release: None,
        generation: 1,
        created_at_ms: at_ms,
    };
    insert(write, &app, name, *team).await.map_err(|error| error.exists("app", name.as_str()))?;
    Ok(app)
}

async fn insert(
    write: &mut Write,
    app: &App,
    name: &AppName,
    team: TeamId,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO apps (id, name, team_id, block, settings, generation, created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(app.id.to_string())
    .bind(name.as_str())
    .bind(team.to_string())
    .bind(i64::from(app.block))
    .bind(to_json("settings", &app.settings)?)
    .bind(to_int("generation", app.generation)?)
    .bind(app.created_at_ms)
    .execute(write.db())
    .await?;
    Ok(())
}

/// Writes the new version of the configuration, or goes back to an earlier one.
async fn configure(
    store: &Store,
    write: &mut Write,
    plan: &Plan,
    app: AppId,
) -> Result<(), StoreError> {
    let changes_config = plan
        .changes
        .iter()
        .any(|effect| matches!(effect, Effect::SetConfig { .. } | Effect::UnsetConfig { .. }));
    let restored = plan.changes.iter().find_map(|effect| match effect {
        Effect::RestoreConfig { to, .. } => Some(*to),
        _ => None,
    });
    let version = if changes_config {
        let (current, newest) = config::versions(write.db(), app).await?;
        let mut values = config::values(write.db(), store.sealer(), app, current).await?;
        for effect in &plan.changes {
            match effect {
                Effect::SetConfig { name, value, .. } => {
                    values.insert(name.clone(), value.clone());
                }
                Effect::UnsetConfig { name } => {
                    values.remove(name);
                }
                _ => {}
            }
        }
        let by = write.by().clone();
        let origin = (by.name.as_str(), by.at_ms);
        config::insert(write.db(), store.sealer(), app, newest + 1, &values, origin).await?;
        newest + 1
    } else if let Some(version) = restored {
        version
    } else {
        return Ok(());
    };
    sqlx::query("UPDATE apps SET config_version = $2 WHERE id = $1")
        .bind(app.to_string())
        .bind(to_int("config_version", version)?)
        .execute(write.db())
        .await?;
    Ok(())
}

async fn one(
    write: &mut Write,
    effect: &Effect,
    progress: &mut Progress,
) -> Result<(), StoreError> {
    let settings = &mut progress.app.settings;
    match effect {
        // Done before: the row by `create`, the configuration by `configure`.
        Effect::CreateApp { .. }
        | Effect::SetConfig { .. }
        | Effect::UnsetConfig { .. }
        | Effect::RestoreConfig { .. } => {}
        Effect::RenameApp { to, .. } => progress.app.name = to.clone(),
        Effect::DestroyApp { .. } => progress.destroyed = true,
        Effect::Scale { process, to, .. } => {
            settings.scale.insert(process.clone(), *to);
        }
        Effect::MakeAddon { addon, limits } => {
            settings.addon = Some((**addon).clone());
            settings.limits.extend(limits.clone());
        }
        Effect::Attach { addon, link, .. } => {
            settings.links.insert(*addon, link.clone());
        }
        Effect::Detach { addon, .. } => {
            settings.links.remove(addon);
        }
        Effect::CreateVolume(new) => volumes::insert(write, progress.app.id, new).await?,
        Effect::RemoveVolume { id, .. } => volumes::remove(write, *id).await?,
        Effect::Stop => settings.stopped = true,
        Effect::Start => settings.stopped = false,
        Effect::Restart => settings.restarts += 1,
        Effect::SetDeployBranch { to, .. } => settings.deploy_branch = Some(to.clone()),
        Effect::AddDomain { domain } => add_domain(write, progress.app.id, domain).await?,
        Effect::RemoveDomain { domain } => {
            sqlx::query("DELETE FROM domains WHERE app_id = $1 AND name = $2")
                .bind(progress.app.id.to_string())
                .bind(domain.as_str())
                .execute(write.db())
                .await?;
        }
        Effect::CreateRelease(new) => progress.release = Some(create_release(write, new).await?),
        Effect::Deploy { release } => {
            progress.deployment = Some(queue(write, progress, *release).await?);
        }
    }
    Ok(())
}

async fn add_domain(write: &mut Write, app: AppId, domain: &Domain) -> Result<(), StoreError> {
    let at_ms = write.by().at_ms;
    sqlx::query("INSERT INTO domains (id, app_id, name, created_at_ms) VALUES ($1, $2, $3, $4)")
        .bind(DomainId::new(id_time(at_ms), random()?).to_string())
        .bind(app.to_string())
        .bind(domain.as_str())
        .bind(at_ms)
        .execute(write.db())
        .await
        .map_err(|error| StoreError::from(error).exists("domain", domain.as_str()))?;
    Ok(())
}

async fn create_release(write: &mut Write, new: &NewRelease) -> Result<Release, StoreError> {
    let by = write.by();
    let release = Release {
        id: ReleaseId::new(id_time(by.at_ms), random()?),
        app: new.app,
        number: new.number,
        image: new.image,
        manifest: new.manifest.clone(),
        config_version: new.config_version,
        commit: new.commit.clone(),
        reason: new.reason.clone(),
        actor: by.principal,
        created_at_ms: by.at_ms,
    };
    releases::insert(write.db(), &release).await?;
    Ok(release)
}

async fn queue(
    write: &mut Write,
    progress: &Progress,
    number: u64,
) -> Result<Deployment, StoreError> {
    let release = match &progress.release {
        Some(release) if release.number == number => release.id,
        _ => {
            releases::by_number(write.db(), progress.app.id, number)
                .await?
                .ok_or(berth_model::plan::Refusal::NoSuchRelease(number))?
                .id
        }
    };
    let at_ms = write.by().at_ms;
    let deployment = Deployment {
        id: DeploymentId::new(id_time(at_ms), random()?),
        app: progress.app.id,
        release,
        state: DeploymentState::Queued,
        rollback: false,
        previous: None,
        error: None,
        created_at_ms: at_ms,
        changed_at_ms: at_ms,
        finished_at_ms: None,
    };
    deployments::insert(write.db(), &deployment).await?;
    Ok(deployment)
}

async fn update(write: &mut Write, progress: &Progress) -> Result<(), StoreError> {
    let app = &progress.app;
    let at_ms = write.by().at_ms;
    sqlx::query(
        "UPDATE apps SET name = $2, settings = $3, generation = $4, destroyed_at_ms = $5
         WHERE id = $1",
    )
    .bind(app.id.to_string())
    .bind(app.name.as_str())
    .bind(to_json("settings", &app.settings)?)
    .bind(to_int("generation", app.generation)?)
    .bind(progress.destroyed.then_some(at_ms))
    .execute(write.db())
    .await
    .map_err(|error| StoreError::from(error).exists("app", app.name.as_str()))?;
    if progress.destroyed {
        // Free for others at once; the rest goes when nothing is left on the machine.
        sqlx::query("DELETE FROM domains WHERE app_id = $1")
            .bind(app.id.to_string())
            .execute(write.db())
            .await?;
    }
    Ok(())
}
