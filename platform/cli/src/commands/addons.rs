//! `berth addons`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use berth_api::{AddonView, AttachAddon, AttachmentChanged, BackupView, CreateAddon, RestoreAddon};
use reqwest::Method;
use serde_json::{Map, Value};

use super::volumes::mib;
use super::{all, app_path, follow_deployment, when};
use crate::arguments::Addons;
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

pub(crate) async fn run(command: Addons, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Addons::List => {
            let addons = all::<AddonView>(client, "/v1/addons").await?;
            output.value(&addons, |page| {
                if page.items.is_empty() {
                    output.note("No add-ons. Make one with `berth addons create KIND NAME`.");
                }
                let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
                table(&["NAME", "KIND", "STATE", "ATTACHED TO", "CREATED"], &rows)
            })
        }
        Addons::Create { kind, name, size, options, team } => {
            let options = chosen(size.as_deref(), &options)?;
            output.note(&format!("-----> Making {name} (the first {kind} takes some minutes)"));
            let body = CreateAddon { kind, name, team, options: Some(options) };
            let made: AddonView = client.send_json(Method::POST, "/v1/addons", &body).await?;
            if let Some(deployment) = &made.deployment {
                let path = format!("/v1/apps/{}", segment(&made.name));
                follow_deployment(client, &path, deployment, output).await?;
            }
            output.value(&made, |made| {
                let name = &made.name;
                format!("{name} runs; attach it with `berth addons attach {name} --app APP`")
            })
        }
        Addons::Show { name } => {
            let found: AddonView = client.get(&path(&name)).await?;
            output.value(&found, details)
        }
        Addons::Attach { name, app, prefix } => {
            let at = app_path(&app, client)?;
            let app = at.rsplit('/').next().unwrap_or_default().to_owned();
            let body = AttachAddon { app, prefix };
            let url = format!("{}/attachments", path(&name));
            let changed: AttachmentChanged = client.send_json(Method::POST, &url, &body).await?;
            if let Some(deployment) = &changed.deployment {
                follow_deployment(client, &at, deployment, output).await?;
            }
            output.value(&changed, |changed| {
                format!("{} has {} of {name}", changed.app, changed.variables.join(", "))
            })
        }
        Addons::Detach { name, app } => {
            let at = app_path(&app, client)?;
            let app = at.rsplit('/').next().unwrap_or_default();
            let url = format!("{}/attachments/{app}", path(&name));
            let changed: AttachmentChanged = client.call(Method::DELETE, &url).await?;
            if let Some(deployment) = &changed.deployment {
                follow_deployment(client, &at, deployment, output).await?;
            }
            output.value(&changed, |changed| {
                format!("{} has {} no more", changed.app, changed.variables.join(", "))
            })
        }
        Addons::Backup { name } => {
            let made: BackupView =
                client.call(Method::POST, &format!("{}/backups", path(&name))).await?;
            output.value(&made, |made| format!("{} holds {} bytes of {name}", made.id, made.bytes))
        }
        Addons::Backups { name } => {
            let backups = all::<BackupView>(client, &format!("{}/backups", path(&name))).await?;
            output.value(&backups, |page| {
                let rows = page.items.iter().map(|one| {
                    let (id, digest) = (one.id.clone(), one.digest.clone());
                    vec![id, when(one.created_at), one.bytes.to_string(), digest]
                });
                table(&["ID", "CREATED", "BYTES", "DIGEST"], &rows.collect::<Vec<_>>())
            })
        }
        Addons::Download { name, backup, file } => {
            let url = format!("{}/backups/{}/content", path(&name), segment(&backup));
            let bytes = download(client, &url, &file).await?;
            output.note(&format!("wrote {bytes} bytes"));
            Ok(())
        }
        Addons::RemoveBackup { name, backup } => {
            client.delete(&format!("{}/backups/{}", path(&name), segment(&backup))).await?;
            output.note(&format!("the backup {backup} is gone"));
            Ok(())
        }
        Addons::Restore { name, backup, yes } => {
            confirm(yes, &name, "replaces what", output)?;
            let body = RestoreAddon { backup };
            let url = format!("{}/restore", path(&name));
            client.send_json::<_, Value>(Method::POST, &url, &body).await?;
            output.note(&format!("{name} holds what the backup {} held", body.backup));
            Ok(())
        }
        Addons::Remove { name, yes } => {
            confirm(yes, &name, "removes the backups of, and all that", output)?;
            client.delete(&path(&name)).await?;
            output.note(&format!("the add-on {name}, what it held and its backups are gone"));
            Ok(())
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/addons/{}", segment(name))
}

fn row(addon: &AddonView) -> Vec<String> {
    let attached = addon.attached.join(", ");
    vec![
        addon.name.clone(),
        addon.kind.clone(),
        addon.state.clone(),
        if attached.is_empty() { "-".to_owned() } else { attached },
        when(addon.created_at),
    ]
}

fn details(addon: &AddonView) -> String {
    let rows = [
        ("Name", addon.name.clone()),
        ("Kind", addon.kind.clone()),
        ("Team", addon.team.clone()),
        ("State", addon.state.clone()),
        ("Address", format!("{}:{}", addon.host, addon.port)),
        ("Options", addon.options.to_string()),
        ("Exports", addon.exports.join(", ")),
        ("Attached to", addon.attached.join(", ")),
        ("Created", when(addon.created_at)),
    ];
    rows.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}

/// The object of what was chosen.
fn chosen(size: Option<&str>, pairs: &[String]) -> Result<Value, Failure> {
    let mut options = Map::new();
    if let Some(size) = size {
        options.insert("size-mib".to_owned(), mib(size)?.into());
    }
    for pair in pairs {
        let (name, text) = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("'{pair}' is not of the form KEY=VALUE")))?;
        // What is no JSON is meant as it stands.
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        options.insert(name.to_owned(), value);
    }
    Ok(Value::Object(options))
}

async fn download(client: &Client, url: &str, file: &Path) -> Result<u64, Failure> {
    if file == Path::new("-") {
        return client.download(url, &mut std::io::stdout().lock()).await;
    }
    let failed = |error| Failure::failed(format!("cannot write {}: {error}", file.display()));
    let mut out = File::create_new(file).map_err(failed)?;
    client.download(url, &mut out).await
}

fn confirm(yes: bool, name: &str, does: &str, output: &Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !output.may_ask() {
        let what = format!("this {does} the add-on {name} holds");
        return Err(Failure::usage(what).with_hint("say --yes"));
    }
    let _ = write!(
        std::io::stderr(),
        "This {does} the add-on {name} holds; nothing brings it back. Type its name: "
    );
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(Failure::failed("nothing was done: that is another name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_is_json_or_a_text() {
        let chosen = chosen(Some("2GiB"), &["a=1".into(), "b=x=y".into(), "c=true".into()]);
        let wanted = serde_json::json!({ "size-mib": 2048, "a": 1, "b": "x=y", "c": true });
        assert_eq!(chosen.unwrap(), wanted);
        assert!(super::chosen(None, &["a".into()]).is_err());
    }
}
