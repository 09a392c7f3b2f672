//! The route table, derived from the rows.

use std::collections::BTreeMap;

use berth_model::route::RouteState;
use berth_model::{AppId, InstanceRecord, Route, RouteTable, rollout};

use crate::row::{Columns, to_int};
use crate::{Store, StoreError, apps, instances};

impl Store {
    /// Every app's route as the rows have it now, under a new generation. No two calls give the
    /// same one, and a greater generation has newer rows.
    ///
    /// # Errors
    /// What the database says.
    pub async fn next_route_table(&self) -> Result<RouteTable, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query(
            "SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'route_generation'), 0) AS last",
        )
        .fetch_one(&mut *tx)
        .await?;
        let generation = Columns(&row).number::<u64>("last")? + 1;
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('route_generation', $1)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(to_int("generation", generation)?.to_string())
        .execute(&mut *tx)
        .await?;

        let mut hosts: BTreeMap<AppId, Vec<String>> = BTreeMap::new();
        for row in &sqlx::query("SELECT app_id, name FROM domains ORDER BY name")
            .fetch_all(&mut *tx)
            .await?
        {
            let row = Columns(row);
            hosts.entry(row.parsed("app_id")?).or_default().push(row.text("name")?);
        }
        let mut answering: BTreeMap<AppId, Vec<InstanceRecord>> = BTreeMap::new();
        for row in
            &sqlx::query("SELECT * FROM instances WHERE state = 'ready' AND stopped_at_ms IS NULL")
                .fetch_all(&mut *tx)
                .await?
        {
            let record = instances::instance(&Columns(row))?;
            answering.entry(record.app).or_default().push(record);
        }
        let rows = sqlx::query(
            "SELECT apps.*, releases.number AS release_number
             FROM apps LEFT JOIN releases ON releases.id = apps.current_release_id
             WHERE apps.destroyed_at_ms IS NULL ORDER BY apps.name",
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut routes = Vec::with_capacity(rows.len());
        for row in &rows {
            let row = Columns(row);
            let app = apps::app(&row)?;
            // An add-on speaks no HTTP: only the name service tells of it.
            let mut names = match app.settings.addon {
                Some(_) => Vec::new(),
                None => vec![format!("{}.{}", app.name, self.domain())],
            };
            names.extend(hosts.remove(&app.id).unwrap_or_default());
            let records = answering.remove(&app.id).unwrap_or_default();
            routes.push(Route {
                app: app.id,
                release: row.opt_number("release_number")?,
                hosts: names,
                state: match app.current_release {
                    _ if app.settings.stopped => RouteState::Stopped,
                    None => RouteState::NoRelease,
                    Some(_) => RouteState::Serving,
                },
                targets: rollout::targets(app.current_release, &records),
                middleware: Vec::new(),
                name: app.name,
            });
        }
        tx.commit().await?;
        Ok(RouteTable { generation, routes })
    }
}
