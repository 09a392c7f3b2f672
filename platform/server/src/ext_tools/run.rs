//! Runs an extension once, with real requests, and shows all that it did.

use anyhow::Result;
use berth_extensions::powers::Session;
use serde_json::json;

use super::call::{End, Loaded};
use super::case::Case;
use super::component::{Component, engine};
use super::host::{Answers, AuthorHost};
use super::{Run, print, test};

pub(super) async fn run(options: &Run) -> Result<bool> {
    let component = Component::read(&options.component)?;
    let mut case = Case::read(&options.event)?;
    let capabilities = &component.manifest.capabilities;
    let named = capabilities.secrets.iter().chain(&capabilities.secrets_read);
    case.real_secrets(named.map(|secret| secret.name.clone()));
    let host = AuthorHost::new(&case, &component.manifest, Answers::Sent, Vec::new());
    let loaded = Loaded::load(&engine()?, &component, &case, &host).await?;
    let session = Session {
        extension: component.manifest.id.clone(),
        allowed: component.allowed(),
        config: component.config(&case.config)?,
        host: std::sync::Arc::clone(&host) as _,
        limits: component.limits,
    };
    let ended = loaded.call(&case, session).await?;
    let seen = host.seen();
    let mut human = String::new();
    for (level, line) in &seen.log {
        human.push_str(&format!("log {level}: {line}\n"));
    }
    for call in &seen.calls {
        human.push_str(&format!("call {call}\n"));
    }
    human.push_str(&match &ended.end {
        End::Output(output) => format!("output {}\n", serde_json::to_string_pretty(output)?),
        other => format!("{}\n", test::said(other)),
    });
    human.push_str(&test::budget(&ended.usage, &component.limits));
    let value = json!({
        "end": test::end_json(&ended.end), "usage": ended.usage, "log": seen.log,
        "calls": seen.calls,
    });
    print(options.json, &value, &human);
    Ok(matches!(ended.end, End::Output(_)))
}
