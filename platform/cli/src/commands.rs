//! One file per noun; each turns arguments into calls and answers into output.

mod access;
mod addons;
mod apps;
mod audit;
mod buildpack;
mod builds;
mod config;
mod doctor;
mod drains;
mod ext;
mod logs;
mod measures;
mod plan;
mod platform;
mod ps;
mod releases;
mod run;
mod users;
mod volumes;

use berth_api::{DeploymentView, Page};
use serde::de::DeserializeOwned;

use crate::arguments::{
    Addons, Alerts, App, Apps, Arguments, Audit, AuditList, Buildpack, BuildpackOperator, Builds,
    Command, Config, Domains, Drains, Ext, Keys, Operator, OrList, Releases, Stacks, Teams, Tokens,
    Users, Volumes,
};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::Output;

/// Most pages that a list goes through.
const PAGES_MAX: usize = 1000;

/// Runs one command.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    if let Command::Completions { shell } = arguments.command {
        return platform::completions(shell, output);
    }
    if let Command::Ext(OrList { verb: Some(Ext::Author(verb)) }) = arguments.command {
        return crate::author::run(verb, output).await;
    }
    if let Command::Buildpack(OrList { verb: Some(Buildpack::Author(verb)) }) = arguments.command {
        return crate::author::buildpack::run(verb, output).await;
    }
    let client = &Client::new(&arguments.global.server, &arguments.global.token)?;
    match arguments.command {
        Command::Apps(noun) => apps::run(noun.verb.unwrap_or(Apps::List), client, output).await,
        Command::Ps(command) => ps::run(command, client, output).await,
        Command::Config(noun) => {
            let verb = noun.verb.unwrap_or(Config::List { reveal: false, app: noun.app });
            config::run(verb, client, output).await
        }
        Command::Builds(noun) => {
            let verb = noun.verb.unwrap_or(Builds::List(noun.app));
            builds::run(verb, client, output).await
        }
        Command::Releases(noun) => {
            let verb = noun.verb.unwrap_or(Releases::List(noun.app));
            releases::run(verb, client, output).await
        }
        Command::Logs(command) => logs::run(command, client, output).await,
        Command::Run(command) => run::run(command, client, output).await,
        Command::Exec(command) => run::exec(command, client).await,
        Command::Domains(noun) => {
            let verb = noun.verb.unwrap_or(Domains::List(noun.app));
            apps::domains(verb, client, output).await
        }
        Command::Volumes(noun) => {
            let verb = noun.verb.unwrap_or(Volumes::List(noun.app));
            volumes::run(verb, client, output).await
        }
        Command::Addons(noun) => {
            addons::run(noun.verb.unwrap_or(Addons::List), client, output).await
        }
        Command::Drains(noun) => {
            let verb = noun.verb.unwrap_or(Drains::List { app: None });
            drains::run(verb, client, output).await
        }
        Command::Stats(command) => measures::stats(command, client, output).await,
        Command::Alerts(noun) => {
            let verb = noun.verb.unwrap_or(Alerts::List { app: None });
            measures::alerts(verb, client, output).await
        }
        Command::Audit(noun) => {
            let verb = noun.verb.unwrap_or_else(|| Audit::List(AuditList::default()));
            audit::run(verb, client, output).await
        }
        Command::Users(noun) => users::run(noun.verb.unwrap_or(Users::List), client, output).await,
        Command::Keys(noun) => {
            access::keys(noun.verb.unwrap_or(Keys::List { mine: false }), client, output).await
        }
        Command::Tokens(noun) => {
            access::tokens(noun.verb.unwrap_or(Tokens::List { mine: false }), client, output).await
        }
        Command::Teams(noun) => {
            access::teams(noun.verb.unwrap_or(Teams::List), client, output).await
        }
        Command::Stacks(noun) => {
            platform::stacks(noun.verb.unwrap_or(Stacks::List), client, output).await
        }
        Command::Buildpack(OrList { verb: Some(Buildpack::Operator(verb)) }) => {
            buildpack::run(verb, client, output).await
        }
        Command::Buildpack(OrList { verb: None }) => {
            buildpack::run(BuildpackOperator::List, client, output).await
        }
        Command::Ext(OrList { verb: Some(Ext::Operator(verb)) }) => {
            ext::run(verb, client, output).await
        }
        Command::Ext(OrList { verb: None }) => ext::run(Operator::List, client, output).await,
        Command::Plan(command) => plan::run(command, client, output).await,
        Command::Open(app) => apps::open(&app, client, output).await,
        Command::Down(command) => platform::down(&command, client, output).await,
        Command::Doctor => doctor::run(client, output).await,
        Command::GitCredential { operation } => {
            platform::git_credential(&operation, client, output)
        }
        Command::Completions { .. } | Command::Buildpack(_) | Command::Ext(_) => Ok(()),
    }
}

/// The path of an app.
fn app_path(app: &App, client: &Client) -> Result<String, Failure> {
    let name = crate::app_name::resolve(app.name.as_deref(), client.server())?;
    Ok(format!("/v1/apps/{}", segment(&name)))
}

/// Every entry of a list, through all its pages.
async fn all<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Page<T>, Failure> {
    let sign = if path.contains('?') { '&' } else { '?' };
    let mut items = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let token =
            next.map(|token| format!("&page_token={}", segment(&token))).unwrap_or_default();
        let page: Page<T> = client.get(&format!("{path}{sign}limit=200{token}")).await?;
        items.extend(page.items);
        next = page.next_page_token;
        if next.is_none() {
            break;
        }
    }
    Ok(Page { items, next_page_token: None })
}

/// Waits until a deployment answers requests or failed.
async fn follow_deployment(
    client: &Client,
    app: &str,
    id: &str,
    output: &Output,
) -> Result<DeploymentView, Failure> {
    let mut last = String::new();
    loop {
        let deployment: DeploymentView =
            client.get(&format!("{app}/deployments/{}?wait=true", segment(id))).await?;
        if deployment.state != last {
            output.note(&format!(
                "       v{} is {}",
                deployment.release,
                deployment.state.replace('_', " ")
            ));
            last.clone_from(&deployment.state);
        }
        if deployment.switched {
            return Ok(deployment);
        }
        if deployment.finished {
            let why = deployment.error.clone().unwrap_or_else(|| deployment.state.clone());
            return Err(Failure::failed(format!(
                "v{} did not come to run: {why}",
                deployment.release
            )));
        }
    }
}

/// A time for people.
fn when(at: berth_api::Timestamp) -> String {
    let text = at.to_string();
    format!("{} {}", &text[..10], &text[11..19])
}
