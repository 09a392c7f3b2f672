//! `berth builds`.

use berth_api::{BuildLogLine, BuildView};
use reqwest::Method;

use super::{all, app_path, when};
use crate::arguments::Builds;
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

pub(crate) async fn run(command: Builds, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Builds::Create(app) => {
            let path = format!("{}/builds", app_path(&app, client)?);
            let build: BuildView =
                client.send_json(Method::POST, &path, &serde_json::json!({})).await?;
            follow(&format!("{path}/{}", segment(&build.id)), client, output).await
        }
        Builds::List(app) => {
            let builds =
                all::<BuildView>(client, &format!("{}/builds", app_path(&app, client)?)).await?;
            output.value(&builds, |page| {
                let rows: Vec<Vec<String>> = page
                    .items
                    .iter()
                    .map(|b| {
                        let commit = b.commit.chars().take(7).collect();
                        vec![b.id.clone(), b.state.clone(), commit, when(b.created_at)]
                    })
                    .collect();
                table(&["ID", "STATE", "COMMIT", "BEGUN"], &rows)
            })
        }
        Builds::Show { build, app } => {
            let path = format!("{}/builds/{}", app_path(&app, client)?, segment(&build));
            if output.is_json() {
                let build: BuildView = client.get(&path).await?;
                return output.value(&build, |_| String::new());
            }
            follow(&path, client, output).await
        }
        Builds::Cancel { build, app } => {
            let path = format!("{}/builds/{}/cancel", app_path(&app, client)?, segment(&build));
            let build: BuildView =
                client.send_json(Method::POST, &path, &serde_json::json!({})).await?;
            output.value(&build, |build| format!("{} is {}", build.id, build.state))
        }
    }
}

/// Prints a build's log to its end; fails when the build did, or the deployment of its image.
async fn follow(path: &str, client: &Client, output: &Output) -> Result<(), Failure> {
    client
        .follow(&format!("{path}/log?follow=true"), |_, data| {
            if let Ok(line) = serde_json::from_str::<BuildLogLine>(data) {
                output.item(&line, |line| line.line.clone())?;
            }
            Ok(true)
        })
        .await?;
    let build: BuildView = client.get(path).await?;
    let why = |error: Option<String>| error.map(|error| format!(": {error}")).unwrap_or_default();
    match (build.state.as_str(), build.deployment) {
        ("succeeded", Some(done)) if done.switched || !done.finished => Ok(()),
        ("succeeded", Some(done)) => Err(Failure::failed(format!(
            "the build succeeded, and its deployment as v{} is {}{}",
            done.release,
            done.state,
            why(done.error)
        ))),
        ("succeeded", None) => {
            Err(Failure::failed("the build succeeded, and there is no release of it"))
        }
        (state, _) => Err(Failure::failed(format!("the build is {state}{}", why(build.error)))),
    }
}
