//! `berth ext show`: everything that is known of an extension, on one page.

use std::fmt::Write;

use berth_api::{
    CapabilityLine, DeliveryView, ExtensionDetails, ExtensionHealth, ExtensionSecretView, Page,
};
use serde::Serialize;

use super::{apps_of, consent, values};
use crate::client::{Client, segment};
use crate::commands::when;
use crate::failure::Failure;
use crate::output::{Output, table};

/// Events that are shown.
const DELIVERIES: usize = 20;
/// Grants that are shown.
const GRANTS: usize = 10;

/// The extension, and the events that it has not taken.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    details: ExtensionDetails,
    deliveries: Vec<DeliveryView>,
}

pub(super) async fn show(id: &str, client: &Client, output: &Output) -> Result<(), Failure> {
    let path = format!("/v1/extensions/{}", segment(id));
    let details: ExtensionDetails = client.get(&path).await?;
    let deliveries: Page<DeliveryView> =
        client.get(&format!("{path}/deliveries?limit={}", DELIVERIES + 1)).await?;
    output.value(&Shown { details, deliveries: deliveries.items }, text)
}

fn text(shown: &Shown) -> String {
    let details = &shown.details;
    let view = &details.extension;
    let limits = &details.limits;
    let mut rows: Vec<(&str, String)> = vec![
        ("id", view.id.clone()),
        ("kind", view.kind.clone()),
        ("version", view.version.clone()),
        ("component", view.component.clone()),
        ("what", view.description.clone()),
        ("state", state(details)),
        ("apps", apps_of(view)),
        ("installed", when(view.installed_at)),
        ("changed", when(view.changed_at)),
        (
            "limits",
            format!(
                "a call has {}, {} of processor time and {}",
                memory(limits.memory_bytes),
                time(limits.cpu_ms * 1_000),
                time(limits.wall_ms * 1_000)
            ),
        ),
    ];
    if view.kind == "console" {
        rows.push(("pages", format!("`berth ext pages {}` lists them", view.id)));
    }
    rows.extend(details.health.iter().flat_map(health));
    if !details.secrets.is_empty() {
        let secret = |one: &ExtensionSecretView| {
            format!("{} ({})", one.name, if one.set { "set" } else { "not set" })
        };
        rows.push(("secrets", details.secrets.iter().map(secret).collect::<Vec<_>>().join(", ")));
    }
    let mut text: String = rows
        .iter()
        .map(|(name, value)| format!("{name:<10} {value}").trim_end().to_owned() + "\n")
        .collect();
    section(&mut text, "It may", &lines(&details.granted));
    let withheld: String = details.withheld.iter().map(|what| format!("  - {what}\n")).collect();
    section(&mut text, "It asks for this too, and may not", &withheld);
    let config: String =
        values::toml_text(&details.config).lines().map(|line| format!("  {line}\n")).collect();
    section(&mut text, "Its configuration", &config);
    let unset = values::unset(&details.config, &details.config_schema);
    section(&mut text, "Not set there", &unset);
    if let Some(review) = &details.review {
        let asked: String =
            consent::text(review, None).lines().map(|line| format!("  {line}\n")).collect();
        let title = format!(
            "Another version waits; `berth ext grant {} --accept {}` lets it run",
            view.id, review.hash
        );
        section(&mut text, &title, &asked);
    }
    section(&mut text, "Granted", &grants(details));
    section(&mut text, "Events that it has not taken", &deliveries(&shown.deliveries));
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    if !body.trim().is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{title}:\n{body}");
    }
}

fn lines(granted: &[CapabilityLine]) -> String {
    granted
        .iter()
        .map(|line| {
            let why = if line.why.is_empty() { String::new() } else { format!(" ({})", line.why) };
            format!("  - {}{why}\n", line.what)
        })
        .collect()
}

/// Whether it is called, and why not.
fn state(details: &ExtensionDetails) -> String {
    let state = &details.extension.state;
    let Some(health) = &details.health else { return state.clone() };
    if let Some(reason) = &health.broken {
        return format!("{state}, but it cannot be called: {reason}");
    }
    match health.rests_until {
        Some(until) => format!("{state}, but it failed too often and rests until {}", when(until)),
        None => state.clone(),
    }
}

fn health(health: &ExtensionHealth) -> Vec<(&'static str, String)> {
    let count: u64 = health.calls.values().sum();
    let outcomes: Vec<String> =
        health.calls.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let refused = match health.refused {
        0 => String::new(),
        refused => format!("; {refused} not made while it rested"),
    };
    let of = if count == 0 { String::new() } else { format!(" ({})", outcomes.join(", ")) };
    let mut rows = vec![
        ("breaker", health.breaker.clone()),
        ("loaded", times(health.loads)),
        ("calls", format!("{count}{of}{refused}")),
    ];
    if let Some(half) = health.p50_us {
        let most = health.p99_us.map_or("over 60 s".to_owned(), time);
        rows.push(("latency", format!("half within {}, 99 of 100 within {most}", time(half))));
    }
    if count > 0 {
        rows.push(("processor", format!("{} for all calls", time(health.cpu_us))));
        rows.push(("memory", format!("{} at most in a call", memory(health.memory_peak_bytes))));
    }
    if health.denied > 0 {
        let tried = format!("{} what it may not; its log says what", times(health.denied));
        rows.push(("tried", tried));
    }
    rows
}

fn grants(details: &ExtensionDetails) -> String {
    let rows: Vec<Vec<String>> = details
        .grants
        .iter()
        .take(GRANTS)
        .map(|grant| {
            let digest = grant.component.trim_start_matches("sha256:");
            let short = digest.get(..12).unwrap_or(digest).to_owned();
            let what = match grant.granted.len() {
                0 => "nothing".to_owned(),
                _ => grant.granted.join("; "),
            };
            vec![format!("  {}", when(grant.at)), grant.actor.clone(), short, what]
        })
        .collect();
    table(&["  WHEN", "BY", "COMPONENT", "WHAT"], &rows)
}

fn deliveries(events: &[DeliveryView]) -> String {
    let rows: Vec<Vec<String>> = events
        .iter()
        .take(DELIVERIES)
        .map(|event| {
            let next = match event.next_at {
                _ if event.dead => "given up".to_owned(),
                Some(at) => when(at),
                None => "-".to_owned(),
            };
            vec![
                format!("  {}", event.event),
                event.kind.clone(),
                event.subject.clone(),
                event.attempts.to_string(),
                next,
                event.error.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let more = if events.len() > DELIVERIES { "  and more\n" } else { "" };
    table(&["  EVENT", "KIND", "ABOUT", "TRIES", "NEXT", "LAST"], &rows) + more
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}

/// Microseconds for people.
fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", short(us as f64 / 1e3)),
        _ => format!("{} s", short(us as f64 / 1e6)),
    }
}

/// Bytes for people.
fn memory(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{} MiB", short(bytes as f64 / f64::from(1 << 20)))
    }
}

/// One decimal at most.
fn short(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use berth_api::{ExtensionLimits, ExtensionReview, ExtensionView, GrantView, Timestamp};
    use serde_json::json;

    use super::*;

    fn line(what: &str, why: &str) -> CapabilityLine {
        CapabilityLine { what: what.to_owned(), why: why.to_owned() }
    }

    fn shown() -> Shown {
        let extension = ExtensionView {
            id: "acme.notify".to_owned(),
            kind: "hook".to_owned(),
            version: "0.1.0".to_owned(),
            component: "sha256:0123456789abcdef".to_owned(),
            description: "Tells people.".to_owned(),
            state: "active".to_owned(),
            apps: Some(vec!["blog".to_owned(), "shop".to_owned()]),
            waiting: None,
            installed_at: Timestamp(1_760_000_000_000),
            changed_at: Timestamp(1_760_000_060_000),
        };
        let health = ExtensionHealth {
            breaker: "healthy".to_owned(),
            rests_until: None,
            calls: BTreeMap::from([("ok".to_owned(), 3), ("error".to_owned(), 1)]),
            refused: 2,
            denied: 1,
            cpu_us: 4_250,
            memory_peak_bytes: 1_179_648,
            broken: None,
            loads: 2,
            p50_us: Some(1_000),
            p99_us: Some(1_000_000),
        };
        Shown {
            details: ExtensionDetails {
                extension,
                granted: vec![line("knows the time", "to tell it"), line("counts requests", "")],
                withheld: vec!["sends POST to chat.example on port 443".to_owned()],
                grants: vec![GrantView {
                    at: Timestamp(1_760_000_000_000),
                    actor: "token:admin".to_owned(),
                    component: "sha256:0123456789abcdef".to_owned(),
                    granted: vec!["knows the time".to_owned()],
                }],
                limits: ExtensionLimits { memory_bytes: 64 << 20, cpu_ms: 1_000, wall_ms: 30_000 },
                config: json!({ "url": "https://a.example" }),
                config_schema: json!({ "properties": { "most": { "default": 3 } } }),
                secrets: vec![ExtensionSecretView { name: "key".to_owned(), set: false }],
                health: Some(health),
                review: None,
            },
            deliveries: vec![DeliveryView {
                event: 42,
                kind: "deployment.failed".to_owned(),
                subject: "dep_1".to_owned(),
                at: Timestamp(1_760_000_000_000),
                attempts: 20,
                dead: true,
                next_at: None,
                error: Some("the receiver answered 500".to_owned()),
            }],
        }
    }

    #[test]
    fn the_page_of_an_extension() {
        insta::assert_snapshot!(text(&shown()));
    }

    #[test]
    fn what_keeps_an_extension_from_being_called_is_said() {
        let mut page = shown();
        let health = page.details.health.as_mut().unwrap();
        health.breaker = "degraded".to_owned();
        health.rests_until = Some(Timestamp(1_760_000_000_000));
        let told = text(&page);
        assert!(told.contains("rests until 2025-10-09 08:53:20"), "{told}");
        let health = page.details.health.as_mut().unwrap();
        health.broken = Some("no code".to_owned());
        assert!(text(&page).contains("active, but it cannot be called: no code"));
    }

    #[test]
    fn a_version_that_waits_is_shown_with_what_it_asks_for_and_how_to_say_yes() {
        let mut page = shown();
        page.details.review = Some(ExtensionReview {
            id: "acme.notify".to_owned(),
            kind: "hook".to_owned(),
            version: "0.2.0".to_owned(),
            component: "sha256:ff".to_owned(),
            description: String::new(),
            hash: "00ff".to_owned(),
            asks: vec![line("knows the time", ""), line("keeps up to 1 MiB of data", "")],
            beyond: vec!["keeps up to 1 MiB of data".to_owned()],
            installed: Some("0.1.0".to_owned()),
        });
        let text = text(&page);
        assert!(text.contains("berth ext grant acme.notify --accept 00ff"), "{text}");
        assert!(text.contains("+ - keeps up to 1 MiB"), "{text}");
    }
}
