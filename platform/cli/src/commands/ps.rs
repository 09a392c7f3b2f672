//! `berth ps`.

use std::future::Future;

use berth_api::{AppView, InstanceView, Page, Scale};
use reqwest::Method;

use super::{all, app_path, when};
use crate::arguments::{App, Ps, PsVerb};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::{pairs, progress};

/// Instances that are shown while a change is waited for.
const SHOWN_MAX: u32 = 8;

pub(crate) async fn run(command: Ps, client: &Client, output: &Output) -> Result<(), Failure> {
    match command.verb {
        None => list(&command.app, client, output).await,
        Some(PsVerb::Scale { counts, app }) => {
            let body = Scale { processes: pairs::counts(&counts)? };
            let app = app_path(&app, client)?;
            let path = format!("{app}/scale");
            let scaling = client.send_json(Method::PUT, &path, &body);
            let app: AppView = until_settled("Scaling", &app, scaling, client, output).await?;
            output.value(&app, |app| {
                let scale: Vec<String> =
                    app.scale.iter().map(|(p, n)| format!("{p}={n}")).collect();
                format!("{} runs {}", app.name, scale.join(" "))
            })
        }
        Some(PsVerb::Restart(app)) => {
            change(&app, "restart", ("Restarting", "has new instances"), client, output).await
        }
        Some(PsVerb::Stop(app)) => {
            change(&app, "stop", ("Stopping", "is stopped"), client, output).await
        }
        Some(PsVerb::Start(app)) => {
            change(&app, "start", ("Starting", "runs"), client, output).await
        }
    }
}

async fn change(
    app: &App,
    verb: &str,
    (doing, done): (&str, &str),
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let app = app_path(app, client)?;
    let (path, nothing) = (format!("{app}/{verb}"), serde_json::json!({}));
    let changing = client.send_json(Method::POST, &path, &nothing);
    let app: AppView = until_settled(doing, &app, changing, client, output).await?;
    output.value(&app, |app| format!("{} {done}", app.name))
}

/// The platform answers when the change is brought about; until then the instances are shown.
async fn until_settled<T>(
    doing: &str,
    app: &str,
    change: impl Future<Output = Result<T, Failure>>,
    client: &Client,
    output: &Output,
) -> Result<T, Failure> {
    let news = async || {
        let instances: Page<InstanceView> =
            client.get(&format!("{app}/instances?limit={SHOWN_MAX}")).await.ok()?;
        let all: Vec<String> =
            instances.items.iter().map(|i| format!("{} {}", i.name, i.state)).collect();
        Some(if all.is_empty() { "nothing runs".to_owned() } else { all.join(", ") })
    };
    progress::shown(output, doing, change, news).await
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
