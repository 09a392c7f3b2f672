//! `berth users`.

use std::io::Write;

use berth_api::{
    ChangeUser, CreateUser, GrantRole, Me, Page, SignInLink, UserCreated, UserSessionView, UserView,
};
use reqwest::Method;

use super::{all, when};
use crate::arguments::Users;
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

pub(crate) async fn run(command: Users, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Users::List => {
            let users = all::<UserView>(client, "/v1/users").await?;
            output.value(&users, |page| {
                let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
                table(&["NAME", "STATE", "ROLES", "PASSWORD", "CREATED"], &rows)
            })
        }
        Users::Create { name, role, team } => {
            let body = CreateUser { name, team, role };
            let made: UserCreated = client.send_json(Method::POST, "/v1/users", &body).await?;
            output.note(&format!(
                "Give {} this link; it signs in once, until {}, to choose a password:",
                made.user.name,
                when(made.link.expires_at)
            ));
            output.value(&made, |made| made.link.url.clone())
        }
        Users::Show { name } => {
            let user: UserView = client.get(&path(&name)).await?;
            output.value(&user, |user| {
                table(&["NAME", "STATE", "ROLES", "PASSWORD", "CREATED"], &[row(user)])
            })
        }
        Users::Link { name } => {
            let link: SignInLink =
                client.call(Method::POST, &format!("{}/link", path(&name))).await?;
            output.note(&format!("This link signs in once, until {}:", when(link.expires_at)));
            output.value(&link, |link| link.url.clone())
        }
        Users::Grant { name, role, team } => {
            let path = in_team(client, &name, team).await?;
            let user: UserView = client.send_json(Method::PUT, &path, &GrantRole { role }).await?;
            output.value(&user, |user| format!("{} has the roles {}", user.name, roles(user)))
        }
        Users::Revoke { name, team } => {
            client.delete(&in_team(client, &name, team).await?).await?;
            output.note(&format!("{name} has no role there"));
            Ok(())
        }
        Users::Disable { name } => change(client, output, &name, "disabled").await,
        Users::Enable { name } => change(client, output, &name, "active").await,
        Users::Remove { name, yes } => {
            confirm(yes, &name, output)?;
            client.delete(&path(&name)).await?;
            output.note(&format!("there is no user {name} any more"));
            Ok(())
        }
        Users::Sessions { name } => {
            let sessions = sessions(client, &name).await?;
            output.value(&sessions, |page| {
                let rows: Vec<Vec<String>> = page.items.iter().map(session_row).collect();
                table(&["SESSION", "SINCE", "LAST USED", "FROM", "BROWSER"], &rows)
            })
        }
        Users::SignOut { name, session } => {
            let ids = match session {
                Some(id) => vec![id],
                None => sessions(client, &name).await?.items.into_iter().map(|s| s.id).collect(),
            };
            for id in &ids {
                client.delete(&format!("{}/sessions/{}", path(&name), segment(id))).await?;
            }
            output.note(&format!("{} sessions of {name} have ended", ids.len()));
            Ok(())
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/users/{}", segment(name))
}

async fn in_team(client: &Client, name: &str, team: Option<String>) -> Result<String, Failure> {
    let team = match team {
        Some(team) => team,
        None => client.get::<Me>("/v1/me").await?.team,
    };
    Ok(format!("{}/teams/{}", path(name), segment(&team)))
}

async fn sessions(client: &Client, name: &str) -> Result<Page<UserSessionView>, Failure> {
    client.get(&format!("{}/sessions", path(name))).await
}

async fn change(client: &Client, output: &Output, name: &str, state: &str) -> Result<(), Failure> {
    let body = ChangeUser { state: state.to_owned() };
    let user: UserView = client.send_json(Method::PATCH, &path(name), &body).await?;
    output.value(&user, |user| format!("{} is {}", user.name, user.state))
}

fn roles(user: &UserView) -> String {
    let roles: Vec<String> =
        user.teams.iter().map(|team| format!("{} in {}", team.role, team.team)).collect();
    if roles.is_empty() { "none".to_owned() } else { roles.join(", ") }
}

fn row(user: &UserView) -> Vec<String> {
    let password = if user.has_password { "chosen" } else { "none yet" };
    vec![
        user.name.clone(),
        user.state.clone(),
        roles(user),
        password.to_owned(),
        when(user.created_at),
    ]
}

fn session_row(session: &UserSessionView) -> Vec<String> {
    vec![
        session.id.clone(),
        when(session.created_at),
        when(session.seen_at),
        session.source_ip.clone().unwrap_or_default(),
        session.agent.clone(),
    ]
}

fn confirm(yes: bool, name: &str, output: &Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let what = format!("this removes {name} with all sessions, tokens and keys");
    if !output.may_ask() {
        return Err(Failure::usage(what).with_hint("say --yes"));
    }
    let _ = write!(std::io::stderr(), "{}. Type the name: ", what.replacen("this", "This", 1));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(Failure::failed("not removed: that is another name"))
    }
}
