//! `berth ext install` and `berth ext grant`.

use std::io::Read;
use std::path::Path;

use berth_api::{
    ExtensionDetails, ExtensionInstalled, ExtensionReview, ExtensionView, GrantExtension,
};
use serde_json::{Value, json};

use super::consent::{self, Placed, Said};
use super::{transfer, values};
use crate::arguments::{ConfigValues, Consent, Grant, Install};
use crate::artifact::{self, COMPONENT_BYTES_MAX};
use crate::client::{Client, Decided, segment};
use crate::failure::Failure;
use crate::output::Output;
use crate::pairs::shell_quoted;

/// What is sent of somebody's decision.
enum Decision {
    /// Yes to all of it.
    Accept,
    /// The file that says what is granted; or nothing, because nothing is to be decided.
    AsItIs,
    /// Nobody was there.
    Open,
}

pub(super) async fn install(
    command: &Install,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let (component, place) = source(&command.what, output).await?;
    let place = place.as_deref();
    let granted = command.consent.grant_file.as_deref().map(values::grant_file).transpose()?;
    let review = match client.install("/v1/extensions?review=true", component.clone()).await? {
        Decided::Done(review) => review,
        Decided::Asked(review) => *review,
    };
    let mut query = Vec::new();
    if let Some(config) = configuration(&command.values, &review, client).await? {
        query.push(format!("config={}", segment(&config.to_string())));
    }
    if !command.apps.is_empty() {
        query.push(format!("apps={}", segment(&command.apps.join(","))));
    }
    query.extend(granted.map(|set| format!("granted={}", segment(&set.to_string()))));
    let to_decide = review.installed.is_none() || !review.beyond.is_empty();
    match decision(&command.consent, &review, place, to_decide, output)? {
        Decision::Accept => query.push(format!("accept={}", segment(&review.hash))),
        Decision::AsItIs => {}
        // Another version may come and wait; a new extension may not.
        Decision::Open if review.installed.is_some() => {}
        Decision::Open => {
            shown(&review, place, output)?;
            return Err(open(&review, &command_line(command, place, &review.hash)));
        }
    }
    let path = format!("/v1/extensions?{}", query.join("&"));
    match client.install::<ExtensionInstalled>(&path, component).await? {
        Decided::Done(installed) if installed.live => {
            output.value(&Placed { of: &installed, place }, |_| {
                live(&installed.extension, &review)
            })?;
            missing(&installed.extension, client, output).await
        }
        Decided::Done(installed) => {
            output.value(&Placed { of: &installed, place }, |_| consent::text(&review, place))?;
            let running = &installed.extension.version;
            output.note(&format!("{running} goes on, {} waits", review.version));
            Err(open(&review, &grant_line(&review)))
        }
        // Somebody else's decision came in between.
        Decided::Asked(review) => {
            shown(&review, place, output)?;
            Err(open(&review, &command_line(command, place, &review.hash)))
        }
    }
}

pub(super) async fn grant(
    command: &Grant,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let path = format!("/v1/extensions/{}/grant", segment(&command.of.id));
    let mut body = GrantExtension {
        accept: command.consent.accept.clone(),
        granted: command.consent.grant_file.as_deref().map(values::grant_file).transpose()?,
    };
    // Where nothing was said yet, the answer is what there is to say yes to.
    for _ in 0..2 {
        let review = match client.decide::<_, ExtensionView>(&path, &body).await? {
            Decided::Done(view) => {
                return output.value(&view, |view| {
                    format!("{} {} runs with what was granted", view.id, view.version)
                });
            }
            Decided::Asked(review) => review,
        };
        match decision(&command.consent, &review, None, true, output)? {
            Decision::Accept => body.accept = Some(review.hash),
            Decision::AsItIs | Decision::Open => {
                shown(&review, None, output)?;
                return Err(open(&review, &grant_line(&review)));
            }
        }
    }
    Err(Failure::failed(format!("what {} asks for changed meanwhile", command.of.id))
        .with_hint("look at it again"))
}

fn decision(
    consent: &Consent,
    review: &ExtensionReview,
    place: Option<&str>,
    to_decide: bool,
    output: &Output,
) -> Result<Decision, Failure> {
    if let Some(given) = &consent.accept {
        if *given == review.hash {
            return Ok(Decision::Accept);
        }
        shown(review, place, output)?;
        return Err(Failure::failed(format!(
            "what {} {} asks for does not have the hash {given}",
            review.id, review.version
        ))
        .with_hint("look at it again, and give the hash of what you saw"));
    }
    if consent.grant_file.is_some() {
        return Ok(Decision::AsItIs);
    }
    if consent.yes {
        output.note(&consent::text(review, place));
        return Ok(Decision::Accept);
    }
    if !to_decide {
        return Ok(Decision::AsItIs);
    }
    match consent::ask(review, place, output)? {
        Said::Yes => Ok(Decision::Accept),
        Said::No => Err(Failure::failed("nothing was granted, and nothing changed")),
        Said::Nobody if review.asks.is_empty() => Ok(Decision::AsItIs),
        Said::Nobody => Ok(Decision::Open),
    }
}

fn shown(review: &ExtensionReview, place: Option<&str>, output: &Output) -> Result<(), Failure> {
    output.value(&Placed { of: review, place }, |placed| consent::text(placed.of, placed.place))
}

/// A question that nobody could be asked, and the command that answers it.
fn open(review: &ExtensionReview, command: &str) -> Failure {
    let (id, version) = (&review.id, &review.version);
    Failure::usage(format!("nobody has said yes to what {id} {version} asks for"))
        .with_hint(format!("if you do: {command}"))
}

fn grant_line(review: &ExtensionReview) -> String {
    format!("berth ext grant {} --accept {}", review.id, review.hash)
}

/// The same command, with the answer in it; of what lay at a place, not of what lies there later.
fn command_line(command: &Install, place: Option<&str>, hash: &str) -> String {
    let what = place.map_or_else(|| command.what.display().to_string(), str::to_owned);
    let mut words = vec![what];
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    if let Some(file) = &command.values.file {
        add("--config", file.display().to_string());
    }
    command.values.set.iter().for_each(|value| add("--set", value.clone()));
    if !command.apps.is_empty() {
        add("--apps", command.apps.join(","));
    }
    add("--accept", hash.to_owned());
    let plain = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:,=@%+".contains(&byte))
    };
    let quoted =
        words.iter().map(|word| if plain(word) { word.clone() } else { shell_quoted(word) });
    format!("berth ext install {}", quoted.collect::<Vec<_>>().join(" "))
}

/// The component, and its place by digest where it comes from a registry.
async fn source(what: &Path, output: &Output) -> Result<(Vec<u8>, Option<String>), Failure> {
    match what.to_str() {
        // What is there is a file, whatever its name.
        Some(reference) if artifact::is_reference(reference) && !what.exists() => {
            let pulled = transfer::pulled(reference, output).await?;
            Ok((pulled.component, pulled.told.place))
        }
        _ => Ok((read(what)?, None)),
    }
}

/// A component from a file.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut component = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut component))
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?;
    if component.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(Failure::failed(format!("{} is larger than 64 MiB", file.display())));
    }
    Ok(component)
}

/// The configuration to send; nothing leaves it as it is.
async fn configuration(
    given: &ConfigValues,
    review: &ExtensionReview,
    client: &Client,
) -> Result<Option<Value>, Failure> {
    let before = match &given.file {
        Some(file) => values::config_file(file)?,
        None if given.set.is_empty() => return Ok(None),
        None if review.installed.is_none() => json!({}),
        None => {
            let path = format!("/v1/extensions/{}", segment(&review.id));
            client.get::<ExtensionDetails>(&path).await?.config
        }
    };
    values::changed(before, &given.set, &[]).map(Some)
}

fn live(view: &ExtensionView, review: &ExtensionReview) -> String {
    let (id, version) = (&view.id, &view.version);
    match &review.installed {
        Some(before) if before != version => format!("{id} {version} takes the place of {before}"),
        Some(_) => format!("{id} {version} is installed again"),
        None => format!("{id} {version} is installed"),
    }
}

/// What it does not have yet, for who installed it.
async fn missing(view: &ExtensionView, client: &Client, output: &Output) -> Result<(), Failure> {
    let id = &view.id;
    if view.state != "active" {
        output.note(&format!("It is {}, and not called until `berth ext resume {id}`", view.state));
    }
    let path = format!("/v1/extensions/{}", segment(id));
    let details: ExtensionDetails = client.get(&path).await?;
    for secret in details.secrets.iter().filter(|secret| !secret.set) {
        let name = &secret.name;
        output.note(&format!(
            "The secret {name} has no value; `berth ext secrets set {id} {name}` gives it one"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command, Ext, Operator};

    fn parsed(line: &[&str]) -> Install {
        let arguments = Arguments::try_parse_from(line).unwrap();
        let Command::Ext(noun) = arguments.command else { panic!() };
        let Some(Ext::Operator(Operator::Install(install))) = noun.verb else { panic!() };
        install
    }

    #[test]
    fn the_command_that_is_told_is_the_one_that_was_given_and_the_answer() {
        let line =
            ["berth", "--token", "t0p", "ext", "install", "my hook.wasm", "--set", "a={\"b\":1}"];
        let command = parsed(&line);
        let told = command_line(&command, None, "00ff");
        assert_eq!(told, "berth ext install 'my hook.wasm' --set 'a={\"b\":1}' --accept 00ff");
        let command = parsed(&["berth", "ext", "install", "registry.example/hook:1"]);
        let told = command_line(&command, Some("registry.example/hook@sha256:0b"), "00ff");
        assert_eq!(told, "berth ext install registry.example/hook@sha256:0b --accept 00ff");
    }

    #[test]
    fn one_says_yes_in_one_way_alone() {
        let both = ["berth", "ext", "install", "x.wasm", "--yes", "--accept", "00"];
        assert!(Arguments::try_parse_from(both).is_err());
        let both = ["berth", "ext", "grant", "a.b", "--grant-file", "g", "--accept", "00"];
        assert!(Arguments::try_parse_from(both).is_err());
    }

    #[test]
    fn one_or_all_are_disabled_and_never_both_or_none() {
        for (line, taken) in [
            (&["berth", "ext", "disable", "a.b"][..], true),
            (&["berth", "ext", "disable", "--all"], true),
            (&["berth", "ext", "disable"], false),
            (&["berth", "ext", "disable", "a.b", "--all"], false),
        ] {
            assert_eq!(Arguments::try_parse_from(line).is_ok(), taken, "{line:?}");
        }
    }
}
