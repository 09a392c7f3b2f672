//! `berth buildpack`: what those do who run buildpacks. Writing them is in `author`.

use std::io::Read;
use std::path::Path;

use berth_api::{BuildpackOrder, BuildpackView, SetBuildpackOrder};
use reqwest::Method;

use super::all;
use crate::arguments::BuildpackOperator;
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

/// Most bytes of a component, which is what a platform takes.
const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
const ORDER: &str = "/v1/buildpack-order";

pub(crate) async fn run(
    command: BuildpackOperator,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        BuildpackOperator::List => list(client, output).await,
        BuildpackOperator::Add { file, replace } => {
            let component = read(&file)?;
            let path = format!("/v1/buildpacks?replace={replace}");
            let added: BuildpackView = client.upload(&path, component).await?;
            output.value(&added, |added| {
                let version = added.version.as_deref().unwrap_or_default();
                format!("{} {version} is tried from the next build on", added.id)
            })
        }
        BuildpackOperator::Remove { id } => {
            client.delete(&format!("/v1/buildpacks/{}", segment(&id))).await?;
            output.note(&format!("{id} is removed; what was built with it goes on"));
            Ok(())
        }
        BuildpackOperator::Order { groups, usual } if usual || !groups.is_empty() => {
            let body = SetBuildpackOrder { groups };
            let order: BuildpackOrder = client.send_json(Method::PUT, ORDER, &body).await?;
            output.value(&order, lines)
        }
        BuildpackOperator::Order { .. } => {
            let order: BuildpackOrder = client.get(ORDER).await?;
            if !order.set {
                output.note("Nobody set an order; these are the usual groups:");
            }
            output.value(&order, lines)
        }
    }
}

fn lines(order: &BuildpackOrder) -> String {
    order.groups.iter().map(|group| format!("{group}\n")).collect()
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let buildpacks = all::<BuildpackView>(client, "/v1/buildpacks").await?;
    output.value(&buildpacks, |page| {
        let row = |one: &BuildpackView| {
            if let Some(reason) = &one.broken {
                output.note(&format!("{} is passed over: {reason}", one.id));
            }
            vec![
                one.id.clone(),
                one.version.clone().unwrap_or_else(|| "-".to_owned()),
                one.origin.clone(),
                if one.broken.is_some() { "broken" } else { "ready" }.to_owned(),
                one.description.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
        table(&["ID", "VERSION", "ORIGIN", "STATE", "WHAT"], &rows)
    })
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut component = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut component))
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?;
    if component.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(Failure::failed(format!("{} is larger than 64 MiB", file.display())));
    }
    Ok(component)
}
