//! Rows as the API shows them. Texts of authors and guests are made fit for a terminal here.

use std::collections::BTreeMap;

use berth_api::{
    CapabilityLine, DeliveryView, ExtensionDetails, ExtensionHealth, ExtensionLimits,
    ExtensionLogLine, ExtensionReview, ExtensionSecretView, ExtensionView, GrantView, Timestamp,
};
use berth_extensions::Limits;
use berth_model::extension::{BreakerState, Capabilities};
use berth_model::text::printable;
use berth_store::{Delivery, Extension, ExtensionLine, GrantRow};

use crate::extensions::{Health, Registry, Review};
use crate::http::call::Call;
use crate::http::problem::ApiError;

/// Longest text of an author or a guest that is shown, bytes.
const TEXT_BYTES_MAX: usize = 4_096;

fn text(text: &str) -> String {
    printable(text, TEXT_BYTES_MAX)
}

/// Names of the apps that an extension is for, as far as the caller sees them.
pub(super) async fn apps(call: &Call, row: &Extension) -> Result<Option<Vec<String>>, ApiError> {
    let Some(ids) = &row.apps else { return Ok(None) };
    let mut names = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(app) = call.store().app(*id).await?
            && call.caller.sees(&app)
        {
            names.push(app.name.to_string());
        }
    }
    names.sort();
    Ok(Some(names))
}

pub(super) fn extension(row: &Extension, apps: Option<Vec<String>>) -> ExtensionView {
    let manifest = &row.version.manifest;
    ExtensionView {
        id: row.id.to_string(),
        kind: manifest.kind.to_string(),
        version: manifest.version.clone(),
        component: row.version.component.to_string(),
        description: text(&manifest.description),
        state: row.state.as_str().to_owned(),
        apps,
        waiting: row.waiting.as_ref().map(|waiting| waiting.manifest.version.clone()),
        installed_at: Timestamp(row.installed_at_ms),
        changed_at: Timestamp(row.changed_at_ms),
    }
}

pub(super) async fn details(call: &Call, row: Extension) -> Result<ExtensionDetails, ApiError> {
    let manifest = &row.version.manifest;
    let names = apps(call, &row).await?;
    let grants = call.store().extension_grants(&row.id).await?;
    let set = call.store().extension_secret_names(&row.id).await?;
    let limits = Limits::asked(manifest.kind, &manifest.limits);
    Ok(ExtensionDetails {
        granted: granted(&row),
        withheld: row.grant.granted.beyond(&manifest.capabilities),
        grants: grants.iter().map(grant).collect(),
        limits: ExtensionLimits {
            memory_bytes: limits.memory_bytes_max,
            cpu_ms: limits.cpu_ms_max.into(),
            wall_ms: limits.wall_ms_max.into(),
        },
        config: row.config.clone(),
        config_schema: manifest.config_schema.clone(),
        secrets: secrets(&manifest.capabilities, &set),
        health: call.actions().extensions().health(&row.id).as_ref().map(health),
        review: waiting(&row),
        extension: extension(&row, names),
    })
}

/// What it may do, with the reasons of its manifest: a narrower grant has none of its own.
fn granted(row: &Extension) -> Vec<CapabilityLine> {
    let reasons: BTreeMap<String, String> =
        row.version.manifest.capabilities.lines().into_iter().collect();
    let lines = row.grant.granted.lines().into_iter();
    lines
        .map(|(what, why)| {
            let why = if why.is_empty() { reasons.get(&what).cloned() } else { Some(why) };
            CapabilityLine { why: text(&why.unwrap_or_default()), what: text(&what) }
        })
        .collect()
}

fn grant(row: &GrantRow) -> GrantView {
    let lines = row.grant.granted.lines();
    GrantView {
        at: Timestamp(row.at_ms),
        actor: row.actor.clone(),
        component: row.component.to_string(),
        granted: lines.into_iter().map(|(what, _)| text(&what)).collect(),
    }
}

/// Those that it asks for, and those that an earlier version left.
fn secrets(asked: &Capabilities, set: &[String]) -> Vec<ExtensionSecretView> {
    let asked = asked.secrets.iter().chain(&asked.secrets_read).map(|one| one.name.clone());
    let mut names: Vec<String> = asked.chain(set.iter().cloned()).collect();
    names.sort();
    names.dedup();
    let view = |name: String| ExtensionSecretView { set: set.contains(&name), name };
    names.into_iter().map(view).collect()
}

fn health(health: &Health) -> ExtensionHealth {
    let (breaker, rests_until) = match health.breaker {
        BreakerState::Healthy => ("healthy", None),
        BreakerState::Degraded { until_ms } => ("degraded", Some(Timestamp(until_ms))),
        BreakerState::Quarantined => ("quarantined", None),
    };
    ExtensionHealth {
        breaker: breaker.to_owned(),
        rests_until,
        broken: health.broken.as_deref().map(text),
        loads: health.loads,
        calls: health.calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        refused: health.refused,
        denied: health.denied,
        cpu_us: health.cpu_us,
        memory_peak_bytes: health.memory_peak_bytes,
        p50_us: health.quantile_us(0.5),
        p99_us: health.quantile_us(0.99),
    }
}

pub(in crate::http) fn review(review: &Review) -> ExtensionReview {
    let manifest = &review.manifest;
    let asks = review.lines.iter();
    ExtensionReview {
        id: manifest.id.to_string(),
        kind: manifest.kind.to_string(),
        version: manifest.version.clone(),
        component: review.component.to_string(),
        description: text(&manifest.description),
        hash: review.hash.clone(),
        asks: asks.map(|(what, why)| CapabilityLine { what: text(what), why: text(why) }).collect(),
        beyond: review.beyond.iter().map(|what| text(what)).collect(),
        installed: review.installed.clone(),
    }
}

/// What the version that waits asks for.
pub(super) fn waiting(row: &Extension) -> Option<ExtensionReview> {
    let waiting = row.waiting.as_ref()?;
    Some(review(&Registry::review_of(waiting, Some(row))))
}

pub(super) fn line(line: ExtensionLine) -> ExtensionLogLine {
    ExtensionLogLine {
        seq: line.seq,
        at: Timestamp(line.at_ms),
        level: line.level,
        line: line.line,
    }
}

pub(super) fn delivery(delivery: Delivery) -> DeliveryView {
    DeliveryView {
        event: delivery.event.seq,
        kind: delivery.event.kind,
        subject: delivery.event.subject,
        at: Timestamp(delivery.event.at_ms),
        attempts: delivery.attempts,
        dead: delivery.dead,
        next_at: (!delivery.dead).then_some(Timestamp(delivery.next_at_ms)),
        error: delivery.error.as_deref().map(text),
    }
}
