//! Reads what a change meets.

use std::collections::BTreeSet;

use berth_model::plan::{BLOCKS, Change, Config, State};
use berth_model::{App, AppId, AppName, Domain, Release, TeamId};
use sqlx::sqlite::SqliteConnection;

use crate::apps::existing;
use crate::row::Columns;
use crate::{Store, StoreError, config, releases, volumes};

pub(super) async fn state(
    store: &Store,
    db: &mut SqliteConnection,
    app: Option<AppId>,
    change: &Change,
) -> Result<State, StoreError> {
    let name_taken = match change {
        Change::Create { name, .. } | Change::CreateAddon { name, .. } | Change::Rename(name) => {
            is_taken(db, name).await?
        }
        _ => false,
    };
    let state =
        State { name_taken, platform_domain: store.domain().to_owned(), ..State::default() };
    let app = match app {
        Some(id) => existing(db, id).await?,
        None => None,
    };
    let Some(app) = app else {
        return Ok(State { free_block: free_block(db).await?, ..state });
    };
    let (config_version, config_newest) = config::versions(db, app.id).await?;
    let current = match app.current_release {
        Some(id) => releases::by_id(db, id).await?,
        None => None,
    };
    let target = match change {
        Change::Rollback { to: Some(number) } => releases::by_number(db, app.id, *number).await?,
        Change::Rollback { to: None } => served_before(db, &app).await?,
        _ => None,
    };
    let target_config = match &target {
        Some(target) => config::values(db, store.sealer(), app.id, target.config_version).await?,
        None => Config::new(),
    };
    let (domains, others) = domains(db, app.id).await?;
    Ok(State {
        config_version,
        config_newest,
        config: config::values(db, store.sealer(), app.id, config_version).await?,
        base: base(db, &app, current.clone()).await?,
        current: current.map(|release| release.number),
        target,
        target_config,
        newest_release: releases::newest_number(db, app.id).await?,
        domains,
        attached: match change {
            Change::RemoveAddon => attached(db, app.id).await?,
            _ => Vec::new(),
        },
        volumes: volumes::of_app(db, app.id).await?,
        others,
        app: Some(app),
        ..state
    })
}

async fn is_taken(db: &mut SqliteConnection, name: &AppName) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM apps WHERE name = $1 AND destroyed_at_ms IS NULL")
        .bind(name.as_str())
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}

/// Apps that reach an add-on.
pub(crate) async fn attached(
    db: &mut SqliteConnection,
    addon: AppId,
) -> Result<Vec<AppName>, StoreError> {
    let rows = sqlx::query(
        "SELECT name FROM apps, json_each(apps.settings, '$.links') AS link
         WHERE destroyed_at_ms IS NULL AND link.key = $1 ORDER BY name",
    )
    .bind(addon.to_string())
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Columns(row).parsed("name")).collect()
}

/// The smallest block that no app has. A destroyed app has its block until nothing of it is left.
async fn free_block(db: &mut SqliteConnection) -> Result<Option<u16>, StoreError> {
    let rows = sqlx::query("SELECT block FROM apps ORDER BY block").fetch_all(db).await?;
    let mut free = 0;
    for row in &rows {
        if Columns(row).number::<u16>("block")? != free {
            break;
        }
        free += 1;
    }
    Ok((free < BLOCKS).then_some(free))
}

/// The release of the newest deployment on its way, else the current one, else the newest.
async fn base(
    db: &mut SqliteConnection,
    app: &App,
    current: Option<Release>,
) -> Result<Option<Release>, StoreError> {
    let row = sqlx::query(
        "SELECT releases.* FROM deployments JOIN releases ON releases.id = deployments.release_id
         WHERE deployments.app_id = $1 AND deployments.finished_at_ms IS NULL
         ORDER BY deployments.number DESC LIMIT 1",
    )
    .bind(app.id.to_string())
    .fetch_optional(&mut *db)
    .await?;
    if let Some(row) = row {
        return releases::release(&Columns(&row)).map(Some);
    }
    match current {
        Some(current) => Ok(Some(current)),
        None => {
            let newest = releases::newest_number(db, app.id).await?;
            releases::by_number(db, app.id, newest).await
        }
    }
}

/// The release that served before the current one.
async fn served_before(
    db: &mut SqliteConnection,
    app: &App,
) -> Result<Option<Release>, StoreError> {
    let Some(current) = app.current_release else { return Ok(None) };
    let row = sqlx::query(
        "SELECT previous_id FROM deployments
         WHERE app_id = $1 AND release_id = $2 AND previous_id IS NOT NULL AND previous_id <> $2
         ORDER BY number DESC LIMIT 1",
    )
    .bind(app.id.to_string())
    .bind(current.to_string())
    .fetch_optional(&mut *db)
    .await?;
    match row {
        Some(row) => releases::by_id(db, Columns(&row).parsed("previous_id")?).await,
        None => Ok(None),
    }
}

type Domains = (BTreeSet<Domain>, Vec<(Domain, TeamId)>);

async fn domains(db: &mut SqliteConnection, app: AppId) -> Result<Domains, StoreError> {
    let rows = sqlx::query(
        "SELECT domains.name AS name, domains.app_id AS app_id, apps.team_id AS team_id
         FROM domains JOIN apps ON apps.id = domains.app_id",
    )
    .fetch_all(db)
    .await?;
    let (mut own, mut others) = (BTreeSet::new(), Vec::new());
    for row in &rows {
        let row = Columns(row);
        if row.parsed::<AppId>("app_id")? == app {
            own.insert(row.parsed("name")?);
        } else {
            others.push((row.parsed("name")?, row.parsed("team_id")?));
        }
    }
    Ok((own, others))
}
