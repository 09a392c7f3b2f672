//! `berth keys`, `berth tokens`, `berth teams`.

use std::io::Read;

use berth_api::{AddKey, CreateTeam, CreateToken, KeyView, TeamView, TokenCreated, TokenView};
use reqwest::Method;

use super::{all, when};
use crate::arguments::{Keys, Teams, Tokens};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

/// Whose something is, for a table.
fn of(team: &Option<String>, user: &Option<String>) -> String {
    match (team, user) {
        (Some(team), _) => team.clone(),
        (None, Some(user)) => format!("user {user}"),
        (None, None) => String::new(),
    }
}

/// What takes something away from a token's role.
fn limits(token: &TokenView) -> String {
    let scope = Some(token.scope.clone()).filter(|scope| scope != "all");
    let apps = token.apps.as_ref().map(|apps| match apps.as_slice() {
        [] => "no app".to_owned(),
        apps => apps.join(", "),
    });
    let limits: Vec<String> = scope.into_iter().chain(apps).collect();
    if limits.is_empty() { "none".to_owned() } else { limits.join("; ") }
}

/// Most bytes of a public key.
const KEY_BYTES_MAX: u64 = 16 * 1024;

pub(crate) async fn keys(command: Keys, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Keys::List { mine } => {
            let keys = all::<KeyView>(client, &format!("/v1/keys?mine={mine}")).await?;
            output.value(&keys, |page| {
                let rows: Vec<Vec<String>> = page
                    .items
                    .iter()
                    .map(|k| {
                        vec![
                            k.name.clone(),
                            of(&k.team, &k.user),
                            k.role.clone(),
                            k.fingerprint.clone(),
                            k.id.clone(),
                        ]
                    })
                    .collect();
                table(&["NAME", "TEAM", "ROLE", "FINGERPRINT", "ID"], &rows)
            })
        }
        Keys::Add { name, file, team, role, mine } => {
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
            let role = role.or_else(|| (!mine).then(|| "developer".to_owned()));
            let body = AddKey { name, public_key: text.trim().to_owned(), team, role, mine };
            let key: KeyView = client.send_json(Method::POST, "/v1/keys", &body).await?;
            output.value(&key, |key| format!("{} ({}) may push", key.name, key.fingerprint))
        }
        Keys::Remove { key } => {
            let keys = removable(client).await?;
            let matching: Vec<&KeyView> =
                keys.iter().filter(|k| k.id == key || k.name == key).collect();
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

/// Those of the teams in which the caller manages access, and the caller's own; some have only one
/// of the two.
async fn removable(client: &Client) -> Result<Vec<KeyView>, Failure> {
    let own = all::<KeyView>(client, "/v1/keys?mine=true").await;
    let of_teams = all::<KeyView>(client, "/v1/keys").await;
    match (own, of_teams) {
        (Ok(own), Ok(of_teams)) => Ok([own.items, of_teams.items].concat()),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one.items),
        (Err(_), Err(error)) => Err(error),
    }
}

pub(crate) async fn tokens(
    command: Tokens,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Tokens::List { mine } => {
            let tokens = all::<TokenView>(client, &format!("/v1/tokens?mine={mine}")).await?;
            output.value(&tokens, |page| {
                let rows: Vec<Vec<String>> = page
                    .items
                    .iter()
                    .map(|t| {
                        let expires = t.expires_at.map_or("never".to_owned(), when);
                        vec![
                            t.name.clone(),
                            of(&t.team, &t.user),
                            t.role.clone(),
                            limits(t),
                            expires,
                            t.id.clone(),
                        ]
                    })
                    .collect();
                table(&["NAME", "TEAM", "ROLE", "LIMITS", "EXPIRES", "ID"], &rows)
            })
        }
        Tokens::Create { name, team, role, mine, apps, scope, expires_days } => {
            let role = role.or_else(|| (!mine).then(|| "developer".to_owned()));
            let name = name.unwrap_or_else(|| format!("{}-token", role.as_deref().unwrap_or("my")));
            let apps = Some(apps).filter(|apps| !apps.is_empty());
            let scope = Some(scope);
            let body = CreateToken { name, team, role, mine, scope, apps, expires_days };
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
        Teams::Remove { name } => {
            client.delete(&format!("/v1/teams/{}", segment(&name))).await?;
            output.note(&format!("there is no team {name} any more"));
            Ok(())
        }
        Teams::Create { name } => {
            let team: TeamView =
                client.send_json(Method::POST, "/v1/teams", &CreateTeam { name }).await?;
            output.value(&team, |team| format!("the team {} exists", team.name))
        }
    }
}
