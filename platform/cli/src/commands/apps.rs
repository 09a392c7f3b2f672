//! `berth apps`, `berth domains`, `berth open`.

use std::io::Write;
use std::process::{Command as Process, Stdio};

use berth_api::{AddDomain, AppView, ChangeApp, CreateApp, DomainView};
use reqwest::Method;

use super::{all, app_path, when};
use crate::arguments::{App, Apps, Domains};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

pub(crate) async fn run(command: Apps, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Apps::Create { name, team, no_remote } => {
            let body = CreateApp { name, team };
            let app: AppView = client.send_json(Method::POST, "/v1/apps", &body).await?;
            if !no_remote {
                add_remote(&app, client, output);
            }
            output.value(&app, info)
        }
        Apps::List => {
            let apps = all::<AppView>(client, "/v1/apps").await?;
            output.value(&apps, |page| {
                let rows: Vec<Vec<String>> = page
                    .items
                    .iter()
                    .map(|app| {
                        let release = app.release.map_or("-".to_owned(), |n| format!("v{n}"));
                        let state = if app.stopped { "stopped" } else { "on" };
                        let url = app.urls.first().cloned().unwrap_or_default();
                        vec![app.name.clone(), app.team.clone(), release, state.to_owned(), url]
                    })
                    .collect();
                if rows.is_empty() {
                    output.note("There are no apps yet. Make one with `berth apps create NAME`.");
                }
                table(&["NAME", "TEAM", "RELEASE", "STATE", "URL"], &rows)
            })
        }
        Apps::Info(app) => {
            let app: AppView = client.get(&app_path(&app, client)?).await?;
            output.value(&app, info)
        }
        Apps::Rename { new_name, app } => {
            let body = ChangeApp { name: Some(new_name), deploy_branch: None };
            let app: AppView =
                client.send_json(Method::PATCH, &app_path(&app, client)?, &body).await?;
            output.value(&app, info)
        }
        Apps::Destroy { app, volumes, yes } => {
            let path = app_path(&app, client)?;
            let found: AppView = client.get(&path).await?;
            confirm(yes, &found.name, output)?;
            let query = if volumes { "?volumes=true" } else { "" };
            client.delete(&format!("{path}{query}")).await?;
            output.note(&format!("{} is destroyed", found.name));
            Ok(())
        }
    }
}

fn info(app: &AppView) -> String {
    let scale: Vec<String> =
        app.scale.iter().map(|(process, count)| format!("{process}={count}")).collect();
    let rows = [
        ("name", app.name.clone()),
        ("team", app.team.clone()),
        ("release", app.release.map_or("none; push to deploy".to_owned(), |n| format!("v{n}"))),
        ("state", if app.stopped { "stopped".to_owned() } else { "on".to_owned() }),
        ("scale", scale.join(" ")),
        (
            "deploy branch",
            app.deploy_branch.clone().unwrap_or_else(|| "the first that is pushed".to_owned()),
        ),
        ("urls", app.urls.join(" ")),
        ("git over HTTP", app.git_http.clone()),
        ("git over SSH", app.git_ssh.clone()),
        ("created", when(app.created_at)),
    ];
    rows.iter().map(|(name, value)| format!("{name:<14} {value}\n")).collect()
}

fn confirm(yes: bool, name: &str, output: &Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !output.may_ask() {
        return Err(Failure::usage(format!("this destroys {name} with all its releases and data"))
            .with_hint("say --yes"));
    }
    let _ = write!(
        std::io::stderr(),
        "This destroys {name} with all its releases and data. Type its name: "
    );
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(Failure::failed("not destroyed: that is another name"))
    }
}

/// Adds the remote `berth`, with ourselves as the helper that knows the token.
fn add_remote(app: &AppView, client: &Client, output: &Output) {
    let git = |arguments: &[&str]| {
        Process::new("git")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !git(&["rev-parse", "--git-dir"]) {
        output.note(&format!(
            "this folder is no git repository, so no remote was added; after `git init`: git remote add berth {}",
            app.git_http
        ));
        return;
    }
    if !git(&["remote", "add", "berth", &app.git_http]) {
        output.note("this folder has a git remote `berth` already; it stays as it is");
        return;
    }
    let own = std::env::current_exe().map_or("berth".to_owned(), |path| path.display().to_string());
    let helper = format!("!'{own}' git-credential");
    git(&["config", &format!("credential.{}.helper", client.server()), &helper]);
    output.note(&format!(
        "the git remote `berth` is {}; deploy with: git push berth HEAD:main",
        app.git_http
    ));
}

pub(crate) async fn domains(
    command: Domains,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Domains::List(app) => {
            let domains =
                all::<DomainView>(client, &format!("{}/domains", app_path(&app, client)?)).await?;
            output.value(&domains, |page| {
                let rows: Vec<Vec<String>> = page
                    .items
                    .iter()
                    .map(|d| {
                        vec![d.domain.clone(), if d.default { "default" } else { "" }.to_owned()]
                    })
                    .collect();
                table(&["DOMAIN", ""], &rows)
            })
        }
        Domains::Add { domain, app } => {
            let path = format!("{}/domains", app_path(&app, client)?);
            let added: DomainView =
                client.send_json(Method::POST, &path, &AddDomain { domain }).await?;
            output.value(&added, |d| format!("{} is routed to the app", d.domain))
        }
        Domains::Remove { domain, app } => {
            client
                .delete(&format!("{}/domains/{}", app_path(&app, client)?, segment(&domain)))
                .await?;
            output.note(&format!("{domain} is routed to the app no more"));
            Ok(())
        }
    }
}

pub(crate) async fn open(app: &App, client: &Client, output: &Output) -> Result<(), Failure> {
    let app: AppView = client.get(&app_path(app, client)?).await?;
    let url = app.urls.first().ok_or_else(|| Failure::failed("the app has no URL"))?;
    let opened = !output.is_json()
        && Process::new("xdg-open")
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    if opened { Ok(()) } else { output.value(url, Clone::clone) }
}
