//! `berth config`.

use std::collections::BTreeMap;
use std::io::Read;

use berth_api::{ChangeConfig, ConfigChanged, ConfigVersionView, ConfigView, Page};
use reqwest::Method;

use super::{app_path, follow_deployment};
use crate::arguments::{App, Config, Format};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::Output;
use crate::pairs;

/// What stands for a value that nobody asked to see.
const HIDDEN: &str = "********";
/// Most bytes of a file of variables.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) async fn run(command: Config, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Config::Set { variables, no_restart, app } => {
            change(&app, some(pairs::variables(&variables)?), no_restart, client, output).await
        }
        Config::Unset { names, no_restart, app } => {
            let variables = names.into_iter().map(|name| (name, None)).collect();
            change(&app, variables, no_restart, client, output).await
        }
        Config::Get { name, app } => {
            let path = format!("{}/config?name={}", app_path(&app, client)?, segment(&name));
            let config: ConfigView = client.get(&path).await?;
            let value = config
                .variables
                .get(&name)
                .ok_or_else(|| Failure::failed(format!("{name} is not set")))?;
            output.value(value, Clone::clone)
        }
        Config::List { reveal: false, app } => {
            let names = names(&app, client).await?;
            output.value(&names, |names| {
                if names.is_empty() {
                    output
                        .note("Nothing is set. Set something with `berth config set NAME=VALUE`.");
                }
                names.iter().map(|name| format!("{name}={HIDDEN}\n")).collect()
            })?;
            output.note("`--reveal` shows the values; it is recorded that you saw them.");
            Ok(())
        }
        Config::List { reveal: true, app } => {
            let config = read(&app, client).await?;
            output.value(&config.variables, |variables| {
                variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
            })
        }
        Config::Export { format, app } => {
            let variables = read(&app, client).await?.variables;
            let lines = |quote: &dyn Fn(&str, &str) -> String| -> String {
                variables.iter().map(|(name, value)| quote(name, value)).collect()
            };
            match format {
                Format::Envfile => {
                    output.data(&lines(&|name, value| format!("{name}={}\n", pairs::quoted(value))))
                }
                Format::Shell => output.data(&lines(&|name, value| {
                    format!("export {name}={}\n", pairs::shell_quoted(value))
                })),
                Format::Json => {
                    let text = serde_json::to_string_pretty(&variables);
                    output.data(&text.map_err(|error| Failure::failed(error.to_string()))?)
                }
            }
        }
        Config::Import { file, no_restart, app } => {
            let source: Box<dyn Read> = if file.as_os_str() == "-" {
                Box::new(std::io::stdin())
            } else {
                Box::new(std::fs::File::open(&file).map_err(|error| {
                    Failure::failed(format!("cannot open {}: {error}", file.display()))
                })?)
            };
            let mut text = String::new();
            source.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
            if text.len() as u64 > FILE_BYTES_MAX {
                return Err(Failure::failed("the file is larger than 1 MiB"));
            }
            change(&app, some(pairs::file(&text)?), no_restart, client, output).await
        }
    }
}

fn some(variables: BTreeMap<String, String>) -> BTreeMap<String, Option<String>> {
    variables.into_iter().map(|(name, value)| (name, Some(value))).collect()
}

/// The names that are set, without their values.
async fn names(app: &App, client: &Client) -> Result<Vec<String>, Failure> {
    let path = format!("{}/config/versions?limit=200", app_path(app, client)?);
    let mut next = path.clone();
    loop {
        let page: Page<ConfigVersionView> = client.get(&next).await?;
        if let Some(current) = page.items.into_iter().find(|version| version.current) {
            return Ok(current.names);
        }
        match page.next_page_token {
            Some(token) => next = format!("{path}&page_token={}", segment(&token)),
            None => return Ok(Vec::new()),
        }
    }
}

async fn read(app: &App, client: &Client) -> Result<ConfigView, Failure> {
    client.get(&format!("{}/config", app_path(app, client)?)).await
}

async fn change(
    app: &App,
    variables: BTreeMap<String, Option<String>>,
    no_restart: bool,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let path = app_path(app, client)?;
    let body = ChangeConfig { variables, no_restart };
    let changed: ConfigChanged =
        client.send_json(Method::PATCH, &format!("{path}/config"), &body).await?;
    if let Some(deployment) = &changed.deployment {
        follow_deployment(client, &path, deployment, output).await?;
    }
    output.value(&changed, |changed| match &changed.deployment {
        Some(_) => "the new release answers".to_owned(),
        None => "kept for the next release".to_owned(),
    })
}
