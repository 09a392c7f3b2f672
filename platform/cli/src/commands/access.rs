//! `berth keys`, `berth tokens`, `berth teams`.

use std::io::Read;

use berth_api::{AddKey, CreateTeam, CreateToken, KeyView, TeamView, TokenCreated, TokenView};
use reqwest::Method;

use super::{all, when};
use crate::arguments::{Keys, Teams, Tokens};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

/// Most bytes of a public key.
const KEY_BYTES_MAX: u64 = 16 * 1024;

pub(crate) async fn keys(command: Keys, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Keys::List => {
            let keys = all::<KeyView>(client, "/v1/keys").await?;
            output.value(&keys, |page| {
                let rows: Vec<Vec<String>> = page
                    .items
                    .iter()
                    .map(|k| {
                        vec![
                            k.name.clone(),
                            k.team.clone(),
                            k.role.clone(),
                            k.fingerprint.clone(),
                            k.id.clone(),
                        ]
                    })
                    .collect();
                table(&["NAME", "TEAM", "ROLE", "FINGERPRINT", "ID"], &rows)
            })
        }
        Keys::Add { name, file, team, role } => {
            let mut text = String::new();
            if file.as_os_str() == "-" {
                std::io::stdin().take(KEY_BYTES_MAX).read_to_string(&mut text)?;
            } else {
                std::fs::File::open(&file)
                    .and_then(|opened| opened.take(KEY_BYTES_MAX).read_to_string(&mut text))
                    .map_err(|error| {
                        Failure::failed(format!("cannot read {}: {error}", file.display()))
                    })?;
            }
            if text.contains("PRIVATE KEY") {
                return Err(Failure::usage("that is a private key; it was not sent")
                    .with_hint("give the file that ends in .pub"));
            }
            let body = AddKey { name, public_key: text.trim().to_owned(), team, role };
            let key: KeyView = client.send_json(Method::POST, "/v1/keys", &body).await?;
            output.value(&key, |key| format!("{} ({}) may push", key.name, key.fingerprint))
        }
        Keys::Remove { key } => {
            let keys = all::<KeyView>(client, "/v1/keys").await?;
            let matching: Vec<&KeyView> =
                keys.items.iter().filter(|k| k.id == key || k.name == key).collect();
            match matching.as_slice() {
                [found] => {
                    client.delete(&format!("/v1/keys/{}", segment(&found.id))).await?;
                    output.note(&format!("{} may not push any more", found.name));
                    Ok(())
                }
                [] => Err(Failure::failed(format!("there is no key '{key}'"))
                    .with_hint("`berth keys list` lists them")),
                _ => Err(Failure::failed(format!("several keys are called '{key}'"))
                    .with_hint("give the id")),
            }
        }
    }
}

pub(crate) async fn tokens(
    command: Tokens,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Tokens::List => {
            let tokens = all::<TokenView>(client, "/v1/tokens").await?;
            output.value(&tokens, |page| {
                let rows: Vec<Vec<String>> = page
                    .items
                    .iter()
                    .map(|t| {
                        let expires = t.expires_at.map_or("never".to_owned(), when);
                        vec![t.name.clone(), t.team.clone(), t.role.clone(), expires, t.id.clone()]
                    })
                    .collect();
                table(&["NAME", "TEAM", "ROLE", "EXPIRES", "ID"], &rows)
            })
        }
        Tokens::Create { name, team, role, expires_days } => {
            let name = name.unwrap_or_else(|| format!("{role}-token"));
            let body = CreateToken { name, team, role, expires_days };
            let created: TokenCreated = client.send_json(Method::POST, "/v1/tokens", &body).await?;
            output.note("Keep this secret now: it is not stored and cannot be shown again.");
            output.value(&created, |created| created.secret.clone())
        }
        Tokens::Revoke { id } => {
            client.delete(&format!("/v1/tokens/{}", segment(&id))).await?;
            output.note(&format!("the token {id} is worth nothing any more"));
            Ok(())
        }
    }
}

pub(crate) async fn teams(command: Teams, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Teams::List => {
            let teams = all::<TeamView>(client, "/v1/teams").await?;
            output.value(&teams, |page| {
                let rows: Vec<Vec<String>> =
                    page.items.iter().map(|t| vec![t.name.clone(), t.id.clone()]).collect();
                table(&["NAME", "ID"], &rows)
            })
        }
        Teams::Create { name } => {
            let team: TeamView =
                client.send_json(Method::POST, "/v1/teams", &CreateTeam { name }).await?;
            output.value(&team, |team| format!("the team {} exists", team.name))
        }
    }
}
