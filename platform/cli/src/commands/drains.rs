//! `berth drains`.

use berth_api::{CreateDrain, DrainView};
use reqwest::Method;

use super::{all, when};
use crate::arguments::Drains;
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

/// Most bytes of certificates.
const CA_BYTES_MAX: u64 = 256 * 1024;

pub(crate) async fn run(command: Drains, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Drains::List { app } => {
            let query = app.map(|app| format!("?app={}", segment(&app))).unwrap_or_default();
            let drains = all::<DrainView>(client, &format!("/v1/drains{query}")).await?;
            output.value(&drains, |page| {
                if page.items.is_empty() {
                    output.note("No drains. Make one with `berth drains add URL --app NAME`.");
                }
                let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
                table(&["ID", "APP", "URL", "SENT", "DROPPED", "STATE"], &rows)
            })
        }
        Drains::Add { url, app, all_apps: _, processors, ca } => {
            let ca = ca.map(|file| pem(&file)).transpose()?;
            let body = CreateDrain { app, url, ca, processors };
            let drain: DrainView = client.send_json(Method::POST, "/v1/drains", &body).await?;
            output.value(&drain, |drain| {
                let of = drain.app.as_deref().unwrap_or("every app");
                format!("{} sends the lines of {of} to {}", drain.id, drain.url)
            })
        }
        Drains::Remove { drain } => {
            client.delete(&format!("/v1/drains/{}", segment(&drain))).await?;
            output.note(&format!("{drain} sends nothing any more"));
            Ok(())
        }
        Drains::Info { drain } => {
            let drain: DrainView = client.get(&format!("/v1/drains/{}", segment(&drain))).await?;
            output.value(&drain, details)
        }
    }
}

fn pem(file: &std::path::Path) -> Result<String, Failure> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(CA_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?;
    if text.contains("PRIVATE KEY") {
        return Err(Failure::usage("that file has a private key; it was not sent")
            .with_hint("give the certificates of the authority alone"));
    }
    Ok(text)
}

fn row(drain: &DrainView) -> Vec<String> {
    let state = match &drain.error {
        Some(error) => error.clone(),
        None if drain.waiting > 0 => format!("{} wait", drain.waiting),
        None => "well".to_owned(),
    };
    vec![
        drain.id.clone(),
        drain.app.clone().unwrap_or_else(|| "every app".to_owned()),
        drain.url.clone(),
        drain.sent.to_string(),
        drain.dropped.to_string(),
        state,
    ]
}

fn details(drain: &DrainView) -> String {
    let processors =
        if drain.processors.is_empty() { "none".to_owned() } else { drain.processors.join(", ") };
    let error = match (&drain.error, drain.error_at) {
        (Some(error), Some(at)) => format!("{error} ({})", when(at)),
        (Some(error), None) => error.clone(),
        (None, _) => "none".to_owned(),
    };
    let rows: [(&str, String); 12] = [
        ("id", drain.id.clone()),
        ("app", drain.app.clone().unwrap_or_else(|| "every app".to_owned())),
        ("url", drain.url.clone()),
        ("processors", processors),
        ("private addresses", if drain.private { "yes" } else { "no" }.to_owned()),
        ("created", when(drain.created_at)),
        ("sent", drain.sent.to_string()),
        ("dropped", drain.dropped.to_string()),
        ("unprocessed", drain.unprocessed.to_string()),
        ("waiting", drain.waiting.to_string()),
        ("lag", format!("{:.1} s", drain.lag_ms as f64 / 1000.0)),
        ("error", error),
    ];
    rows.map(|(name, value)| format!("{name:<18} {value}")).join("\n")
}
