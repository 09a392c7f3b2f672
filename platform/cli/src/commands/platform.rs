//! `berth stacks`, `berth down`, `berth completions`, and what git asks of us.

use std::io::{BufRead, Write};

use berth_api::StackView;
use clap::CommandFactory;
use reqwest::Method;

use super::{all, when};
use crate::arguments::{Arguments, Down, Stacks};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::progress;

pub(crate) async fn stacks(
    command: Stacks,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Stacks::List => {
            let stacks = all::<StackView>(client, "/v1/stacks").await?;
            output.value(&stacks, |page| {
                let rows: Vec<Vec<String>> = page
                    .items
                    .iter()
                    .map(|s| {
                        vec![
                            s.name.clone(),
                            s.part.clone(),
                            s.made_at.map_or("made on first need".to_owned(), when),
                            s.bytes.map_or(String::new(), |b| format!("{} MiB", b >> 20)),
                            s.digest.clone().unwrap_or_default(),
                        ]
                    })
                    .collect();
                table(&["NAME", "PART", "MADE", "SIZE", "DIGEST"], &rows)
            })
        }
        Stacks::Update { stack } => {
            let path = format!("/v1/stacks/{}/update", segment(&stack));
            let nothing = serde_json::json!({});
            let making = client.send_json(Method::POST, &path, &nothing);
            let what = format!("Making {stack} anew, which takes some minutes");
            let made: Vec<StackView> =
                progress::shown(output, &what, making, async || None).await?;
            output.value(&made, |made| {
                made.iter()
                    .map(|s| {
                        format!(
                            "{} ({}) is {}\n",
                            s.name,
                            s.part,
                            s.digest.clone().unwrap_or_default()
                        )
                    })
                    .collect()
            })
        }
    }
}

pub(crate) async fn down(command: &Down, client: &Client, output: &Output) -> Result<(), Failure> {
    if !command.yes {
        if !output.may_ask() {
            return Err(
                Failure::usage("this stops every app of the platform").with_hint("say --yes")
            );
        }
        let _ = write!(std::io::stderr(), "This stops every app of the platform. Type `down`: ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim() != "down" {
            return Err(Failure::failed("nothing was stopped"));
        }
    }
    let path = format!("/v1/down?grace_ms={}", command.grace_ms);
    let _: serde_json::Value =
        client.send_json(Method::POST, &path, &serde_json::json!({})).await?;
    output.note("the platform stops; data stays");
    Ok(())
}

pub(crate) fn completions(shell: clap_complete::Shell, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "berth", &mut script);
    output.data(&String::from_utf8_lossy(&script))
}

/// git's credential protocol (git-credential(1)): it asks on standard input, and the answer is the
/// token, for this platform only.
pub(crate) fn git_credential(
    operation: &str,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    if operation != "get" || client.token().is_empty() {
        return Ok(());
    }
    let own = client.server().trim_start_matches("http://");
    let (mut protocol, mut host) = (false, false);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        protocol |= line == "protocol=http";
        host |= line.strip_prefix("host=") == Some(own);
    }
    if !(protocol && host) {
        return Ok(());
    }
    output.data(&format!("username=berth\npassword={}\n", client.token()))
}
