//! `berth run` and `berth exec`.

use berth_api::{CreateRun, InstanceView, Page, Size};
use reqwest::Method;

use super::{all, app_path};
use crate::arguments::{Exec, Run};
use crate::attach;
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::Output;

pub(crate) async fn run(command: Run, client: &Client, output: &Output) -> Result<(), Failure> {
    let terminal = !command.detach && attach::wants_terminal();
    let path = format!("{}/runs", app_path(&command.app, client)?);
    let body = CreateRun {
        command: command.command,
        detach: command.detach,
        timeout_s: command.timeout_s,
        terminal: terminal
            .then(attach::size)
            .flatten()
            .map(|(rows, columns)| Size { rows, columns }),
    };
    let instance: InstanceView = client.send_json(Method::POST, &path, &body).await?;
    if command.detach {
        return output.value(&instance, |instance| instance.id.clone());
    }
    ended(
        attach::attach(client, &format!("{path}/{}/attach", segment(&instance.id)), terminal)
            .await?,
    )
}

pub(crate) async fn exec(command: Exec, client: &Client) -> Result<(), Failure> {
    let app = app_path(&command.app, client)?;
    let instance = find(&app, &command.instance, client).await?;
    let mut query: Vec<String> =
        command.command.iter().map(|word| format!("command={}", segment(word))).collect();
    let terminal = attach::wants_terminal();
    if let Some((rows, columns)) = terminal.then(attach::size).flatten() {
        query.push(format!("rows={rows}&columns={columns}"));
    }
    let path = format!("{app}/instances/{}/exec?{}", segment(&instance), query.join("&"));
    ended(attach::attach(client, &path, terminal).await?)
}

/// The id of an instance that is named like `web.1`.
async fn find(app: &str, name: &str, client: &Client) -> Result<String, Failure> {
    if name.starts_with("ins_") {
        return Ok(name.to_owned());
    }
    let instances: Page<InstanceView> = all(client, &format!("{app}/instances")).await?;
    let mut running: Vec<&InstanceView> =
        instances.items.iter().filter(|i| i.name == name).collect();
    // During a deploy two instances may have the name; the newer one is meant.
    running.sort_by_key(|i| (i.state == "ready", i.release));
    running.last().map(|i| i.id.clone()).ok_or_else(|| {
        Failure::failed(format!("there is no instance {name}")).with_hint("`berth ps` lists them")
    })
}

fn ended(code: i32) -> Result<(), Failure> {
    if code == 0 { Ok(()) } else { Err(Failure::exit(code)) }
}
