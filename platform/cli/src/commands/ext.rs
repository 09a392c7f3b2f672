//! `berth ext`: what those do who run extensions. Writing them is in `author`.

mod consent;
mod draw;
mod install;
mod pages;
mod show;
mod transfer;
mod values;

use std::io::Write;

use berth_api::{
    ExtensionApps, ExtensionDetails, ExtensionLogLine, ExtensionSecretView, ExtensionView, Page,
    ReplayEvents, Replayed, SetExtensionSecret,
};
use reqwest::Method;
use serde_json::json;

use super::all;
use crate::arguments::{
    AppsOf, Disable, Extension, ExtensionConfig, ExtensionLogs, Operator, Replay, Secrets,
};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

pub(crate) async fn run(
    command: Operator,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Operator::List => list(client, output).await,
        Operator::Install(install) => install::install(&install, client, output).await,
        Operator::Push(push) => transfer::push(&push, output).await,
        Operator::Pull(pull) => transfer::pull(&pull, output).await,
        Operator::Save(save) => transfer::save(&save, client, output).await,
        Operator::Show(of) => show::show(&of.id, client, output).await,
        Operator::Grant(grant) => install::grant(&grant, client, output).await,
        Operator::Config(config) => self::config(&config, client, output).await,
        Operator::Secrets(verb) => secrets(verb, client, output).await,
        Operator::Apps(apps) => self::apps(apps, client, output).await,
        Operator::Logs(command) => logs(&command, client, output).await,
        Operator::Pages { id } => pages::list(id, client, output).await,
        Operator::Page(of) => pages::show(&of, client, output).await,
        Operator::Disable(which) => disable(&which, client, output).await,
        Operator::Resume(of) => {
            let path = format!("{}/resume", path(&of));
            let view: ExtensionView = client.send_json(Method::POST, &path, &json!({})).await?;
            output.value(&view, |view| format!("{} {} is called again", view.id, view.version))
        }
        Operator::Replay(replay) => self::replay(&replay, client, output).await,
        Operator::Remove { of, yes } => {
            let found: ExtensionDetails = client.get(&path(&of)).await?;
            confirm(yes, &found.extension.id, output)?;
            client.delete(&path(&of)).await?;
            output.note(&format!("{} is removed", found.extension.id));
            Ok(())
        }
    }
}

fn path(of: &Extension) -> String {
    format!("/v1/extensions/{}", segment(&of.id))
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let extensions = all::<ExtensionView>(client, "/v1/extensions").await?;
    output.value(&extensions, |page| {
        if page.items.is_empty() {
            output.note("No extensions. Install one with `berth ext install FILE.wasm`.");
        }
        let rows: Vec<Vec<String>> = page
            .items
            .iter()
            .map(|one| {
                // One that was never granted anything is itself what waits.
                let waiting = one.waiting.as_ref().filter(|version| **version != one.version);
                let waiting = waiting.map(|version| format!(", {version} waits"));
                vec![
                    one.id.clone(),
                    one.kind.clone(),
                    one.version.clone(),
                    format!("{}{}", one.state, waiting.unwrap_or_default()),
                    apps_of(one),
                    one.description.clone(),
                ]
            })
            .collect();
        table(&["ID", "KIND", "VERSION", "STATE", "APPS", "WHAT"], &rows)
    })
}

/// The apps that it is for.
fn apps_of(view: &ExtensionView) -> String {
    match &view.apps {
        None => "all".to_owned(),
        Some(names) if names.is_empty() => "none".to_owned(),
        Some(names) => names.join(","),
    }
}

async fn config(
    command: &ExtensionConfig,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let details: ExtensionDetails = client.get(&path(&command.of)).await?;
    let reads = command.file.is_none() && command.set.is_empty() && command.unset.is_empty();
    if reads {
        return output.value(&details.config, |config| {
            let unset = values::unset(config, &details.config_schema);
            if !unset.is_empty() {
                output.note(&format!("Not set:\n{unset}"));
            }
            values::toml_text(config)
        });
    }
    let before = match &command.file {
        Some(file) => values::config_file(file)?,
        None => details.config,
    };
    let config = values::changed(before, &command.set, &command.unset)?;
    let path = format!("{}/config", path(&command.of));
    let view: ExtensionView = client.send_json(Method::PUT, &path, &config).await?;
    output.value(&view, |view| format!("{} has another configuration", view.id))
}

async fn secrets(verb: Secrets, client: &Client, output: &Output) -> Result<(), Failure> {
    let at = |of: &Extension, name: &str| format!("{}/secrets/{}", path(of), segment(name));
    match verb {
        Secrets::List(of) => {
            let details: ExtensionDetails = client.get(&path(&of)).await?;
            output.value(&details.secrets, |secrets| {
                if secrets.is_empty() {
                    output.note("It asks for no secret.");
                }
                let row = |one: &ExtensionSecretView| {
                    vec![one.name.clone(), if one.set { "set" } else { "not set" }.to_owned()]
                };
                table(&["NAME", "STATE"], &secrets.iter().map(row).collect::<Vec<_>>())
            })
        }
        Secrets::Set(secret) => {
            let body = SetExtensionSecret { value: values::secret(&secret.name).await? };
            let path = at(&secret.of, &secret.name);
            let _: serde_json::Value = client.send_json(Method::PUT, &path, &body).await?;
            output.note(&format!("{} has the secret {}", secret.of.id, secret.name));
            Ok(())
        }
        Secrets::Unset(secret) => {
            client.delete(&at(&secret.of, &secret.name)).await?;
            output.note(&format!("{} has the secret {} no more", secret.of.id, secret.name));
            Ok(())
        }
    }
}

async fn apps(command: AppsOf, client: &Client, output: &Output) -> Result<(), Failure> {
    let path = path(&command.of);
    if command.names.is_empty() && !command.all {
        let details: ExtensionDetails = client.get(&path).await?;
        let apps = ExtensionApps { apps: details.extension.apps.clone() };
        return output.value(&apps, |_| apps_of(&details.extension));
    }
    let body = ExtensionApps { apps: (!command.all).then_some(command.names) };
    let view: ExtensionView = client.send_json(Method::PUT, &format!("{path}/apps"), &body).await?;
    output.value(&view, |view| format!("{} is for: {}", view.id, apps_of(view)))
}

async fn logs(command: &ExtensionLogs, client: &Client, output: &Output) -> Result<(), Failure> {
    let path = format!("{}/log?lines={}", path(&command.of), command.lines);
    let human = |line: &ExtensionLogLine| format!("{} {:<7} {}", line.at, line.level, line.line);
    if !command.follow {
        let page: Page<ExtensionLogLine> = client.get(&path).await?;
        for line in &page.items {
            output.item(line, human)?;
        }
        return Ok(());
    }
    client
        .follow(&format!("{path}&follow=true"), |_, data| {
            if let Ok(line) = serde_json::from_str::<ExtensionLogLine>(data) {
                output.item(&line, human)?;
            }
            Ok(true)
        })
        .await
}

async fn disable(which: &Disable, client: &Client, output: &Output) -> Result<(), Failure> {
    let Some(id) = &which.id else {
        let path = "/v1/extensions/disable";
        let names: Vec<String> = client.send_json(Method::POST, path, &json!({})).await?;
        return output.value(&names, |names| {
            if names.is_empty() {
                output.note("No extension was called.");
            }
            names.iter().map(|name| format!("{name} is called no more\n")).collect()
        });
    };
    let path = format!("/v1/extensions/{}/disable", segment(id));
    let view: ExtensionView = client.send_json(Method::POST, &path, &json!({})).await?;
    output.value(&view, |view| format!("{} is called no more", view.id))
}

async fn replay(command: &Replay, client: &Client, output: &Output) -> Result<(), Failure> {
    let path = format!("{}/replay", path(&command.of));
    let body = ReplayEvents { event: command.event };
    let replayed: Replayed = client.send_json(Method::POST, &path, &body).await?;
    if let (Some(event), 0) = (command.event, replayed.events) {
        let id = &command.of.id;
        return Err(Failure::failed(format!("the event {event} is none that {id} gave up"))
            .with_hint(format!("`berth ext show {id}` lists them")));
    }
    output.value(&replayed, |replayed| match replayed.events {
        0 => "no event was given up".to_owned(),
        1 => "1 event is offered again".to_owned(),
        count => format!("{count} events are offered again"),
    })
}

fn confirm(yes: bool, id: &str, output: &Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let what = format!("this removes {id} with its secrets and everything that it keeps");
    if !output.may_ask() {
        return Err(Failure::usage(what).with_hint("say --yes"));
    }
    let _ = write!(std::io::stderr(), "{}. Type its id: ", what.replacen("this", "This", 1));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == id {
        Ok(())
    } else {
        Err(Failure::failed("not removed: that is another id"))
    }
}
