//! `berth volumes`.

use std::io::Write;

use berth_api::{CreateVolume, VolumeView};
use berth_model::size::ByteSize;
use reqwest::Method;

use super::{all, app_path};
use crate::arguments::Volumes;
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

pub(crate) async fn run(command: Volumes, client: &Client, output: &Output) -> Result<(), Failure> {
    match command {
        Volumes::List(app) => {
            let path = format!("{}/volumes", app_path(&app, client)?);
            let volumes = all::<VolumeView>(client, &path).await?;
            output.value(&volumes, |page| {
                if page.items.is_empty() {
                    output.note(
                        "No volumes. Make one with `berth volumes create NAME --path /data`.",
                    );
                }
                let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
                table(&["NAME", "APP", "PROCESS", "PATH", "SIZE", "USED", "MOUNTED"], &rows)
            })
        }
        Volumes::Create { name, path, size, process, no_restart, app } => {
            let size_mib = size.map(|size| mib(&size)).transpose()?;
            let body = CreateVolume { name, path, process, size_mib, no_restart };
            let url = format!("{}/volumes", app_path(&app, client)?);
            let made: VolumeView = client.send_json(Method::POST, &url, &body).await?;
            output.value(&made, |volume| {
                let (name, process, path) = (&volume.name, &volume.process, &volume.path);
                format!("{process} has the volume {name} of {} at {path}", size_of(volume))
            })
        }
        Volumes::Remove { name, yes, app } => {
            confirm(yes, &name, output)?;
            let path = format!("{}/volumes/{}", app_path(&app, client)?, segment(&name));
            client.delete(&path).await?;
            output.note(&format!("the volume {name} and what it held are gone"));
            Ok(())
        }
    }
}

fn row(volume: &VolumeView) -> Vec<String> {
    vec![
        volume.name.clone(),
        volume.app.clone(),
        volume.process.clone(),
        volume.path.clone(),
        size_of(volume),
        volume.used_bytes.map_or("-".to_owned(), |bytes| format!("{}MiB", bytes.div_ceil(1 << 20))),
        if volume.instance.is_some() { "yes" } else { "no" }.to_owned(),
    ]
}

fn size_of(volume: &VolumeView) -> String {
    ByteSize(u64::from(volume.size_mib) << 20).to_string()
}

/// A size in whole MiB.
pub(super) fn mib(text: &str) -> Result<u32, Failure> {
    let size: ByteSize = text.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let whole = size.0.is_multiple_of(1 << 20);
    let mib = u32::try_from(size.0 >> 20).ok().filter(|_| whole);
    mib.ok_or_else(|| Failure::usage(format!("'{text}' is no whole number of MiB, as 512MiB is")))
}

fn confirm(yes: bool, name: &str, output: &Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !output.may_ask() {
        return Err(Failure::usage(format!("this removes what the volume {name} holds"))
            .with_hint("say --yes"));
    }
    let _ = write!(
        std::io::stderr(),
        "This removes what the volume {name} holds; nothing brings it back. Type its name: "
    );
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(Failure::failed("not removed: that is another name"))
    }
}
