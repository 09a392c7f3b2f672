//! `berth releases`.

use berth_api::{DeploymentView, ReleaseDiff, ReleaseView, Rollback};
use reqwest::Method;

use super::{all, app_path, follow_deployment, when};
use crate::arguments::Releases;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Output, table};

pub(crate) async fn run(
    command: Releases,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Releases::List(app) => {
            let path = format!("{}/releases", app_path(&app, client)?);
            let releases = all::<ReleaseView>(client, &path).await?;
            output.value(&releases, |page| {
                let rows: Vec<Vec<String>> = page
                    .items
                    .iter()
                    .map(|r| {
                        let current = if r.current { "current" } else { "" };
                        vec![
                            format!("v{}", r.number),
                            when(r.created_at),
                            r.actor.clone(),
                            current.to_owned(),
                            r.reason.clone(),
                        ]
                    })
                    .collect();
                table(&["RELEASE", "MADE", "BY", "", "WHY"], &rows)
            })
        }
        Releases::Show { release, app } => {
            let path = format!("{}/releases/{}", app_path(&app, client)?, number(&release)?);
            let release: ReleaseView = client.get(&path).await?;
            output.value(&release, show)
        }
        Releases::Diff { from, to, app } => {
            let path = format!(
                "{}/releases/{}/diff/{}",
                app_path(&app, client)?,
                number(&from)?,
                number(&to)?
            );
            let diff: ReleaseDiff = client.get(&path).await?;
            output.value(&diff, |diff| {
                let or_none =
                    |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
                let rows: Vec<Vec<String>> = diff
                    .changes
                    .iter()
                    .map(|d| vec![d.what.clone(), or_none(&d.from), or_none(&d.to)])
                    .collect();
                if rows.is_empty() {
                    output.note("Nothing differs.");
                }
                table(&["WHAT", &format!("v{}", diff.from), &format!("v{}", diff.to)], &rows)
            })
        }
        Releases::Rollback { release, app } => {
            let path = app_path(&app, client)?;
            let body = Rollback { release: release.as_deref().map(number).transpose()? };
            let deployment: DeploymentView =
                client.send_json(Method::POST, &format!("{path}/rollback"), &body).await?;
            let deployment = follow_deployment(client, &path, &deployment.id, output).await?;
            output.value(&deployment, |d| format!("v{} answers", d.release))
        }
    }
}

fn show(release: &ReleaseView) -> String {
    let mut text = format!(
        "release        v{}{}\nwhy            {}\nby             {}\nmade           {}\ncommit         {}\nimage          {}\nconfig         version {}\n",
        release.number,
        if release.current { " (current)" } else { "" },
        release.reason,
        release.actor,
        when(release.created_at),
        release.commit,
        release.image,
        release.config_version
    );
    for (name, process) in &release.manifest.processes {
        text.push_str(&format!("process {name:<6} {}\n", process.command.join(" ")));
    }
    text
}

/// `v3` or `3`.
fn number(text: &str) -> Result<u64, Failure> {
    text.strip_prefix('v').unwrap_or(text).parse().map_err(|_| {
        Failure::usage(format!("'{text}' is not a release; releases are called v1, v2, v3"))
    })
}
