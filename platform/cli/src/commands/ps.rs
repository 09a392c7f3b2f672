//! `berth ps`.

use berth_api::{AppView, InstanceView, Scale};
use reqwest::Method;

use super::{all, app_path, when};
use crate::arguments::{App, Ps, PsVerb};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::pairs;

pub(crate) async fn run(command: Ps, client: &Client, output: &Output) -> Result<(), Failure> {
    match command.verb {
        None => list(&command.app, client, output).await,
        Some(PsVerb::Scale { counts, app }) => {
            let body = Scale { processes: pairs::counts(&counts)? };
            let path = format!("{}/scale", app_path(&app, client)?);
            let app: AppView = client.send_json(Method::PUT, &path, &body).await?;
            output.value(&app, |app| {
                let scale: Vec<String> =
                    app.scale.iter().map(|(p, n)| format!("{p}={n}")).collect();
                format!("{} runs {}", app.name, scale.join(" "))
            })
        }
        Some(PsVerb::Restart(app)) => {
            change(&app, "restart", "has new instances", client, output).await
        }
        Some(PsVerb::Stop(app)) => change(&app, "stop", "is stopped", client, output).await,
        Some(PsVerb::Start(app)) => change(&app, "start", "runs", client, output).await,
    }
}

async fn change(
    app: &App,
    verb: &str,
    done: &str,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let path = format!("{}/{verb}", app_path(app, client)?);
    let app: AppView = client.send_json(Method::POST, &path, &serde_json::json!({})).await?;
    output.value(&app, |app| format!("{} {done}", app.name))
}

async fn list(app: &App, client: &Client, output: &Output) -> Result<(), Failure> {
    let instances =
        all::<InstanceView>(client, &format!("{}/instances", app_path(app, client)?)).await?;
    output.value(&instances, |page| {
        if page.items.is_empty() {
            output.note("Nothing runs. Deploy with `git push`, or `berth ps start` a stopped app.");
        }
        let rows: Vec<Vec<String>> = page
            .items
            .iter()
            .map(|i| {
                vec![
                    i.name.clone(),
                    i.state.clone(),
                    format!("v{}", i.release),
                    i.attempt.saturating_sub(1).to_string(),
                    i.memory_bytes.map_or("-".to_owned(), |b| format!("{} MiB", b >> 20)),
                    when(i.created_at),
                    i.id.clone(),
                ]
            })
            .collect();
        table(&["NAME", "STATE", "RELEASE", "RESTARTS", "MEMORY", "SINCE", "ID"], &rows)
    })
}
