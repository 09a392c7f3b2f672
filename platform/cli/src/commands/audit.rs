//! `berth audit`.

use std::time::Duration;

use berth_api::{EventView, Page};
use berth_model::text::printable;

use super::when;
use crate::arguments::{Audit, AuditList};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{Output, table};

/// How many are listed, and before others are waited for.
const LIMIT: u32 = 50;
const LIMIT_BEFORE_FOLLOW: u32 = 10;
/// Most entries of one page.
const PAGE_MAX: u32 = 200;
/// How long after the end of a stream the next one is asked for.
const AGAIN: Duration = Duration::from_millis(500);
/// Longest name that is shown, bytes, and widths of the columns of a stream.
const NAME_BYTES_MAX: usize = 60;
const WIDTHS: [usize; 4] = [19, 16, 15, 16];

pub(crate) async fn run(command: Audit, client: &Client, output: &Output) -> Result<(), Failure> {
    let Audit::List(wanted) = command;
    let path = path(&wanted);
    if wanted.follow {
        return follow(&path, wanted.limit.unwrap_or(LIMIT_BEFORE_FOLLOW), client, output).await;
    }
    let items = newest(&path, wanted.limit.unwrap_or(LIMIT), client).await?;
    if items.is_empty() && !output.is_json() {
        output.note(
            "Nothing of that kind happened. `--all` lists also what the platform did itself.",
        );
    }
    output.value(&Page { items, next_page_token: None }, |page| {
        let rows: Vec<Vec<String>> = page.items.iter().map(|event| row(event).into()).collect();
        table(&["TIME (UTC)", "WHO", "FROM", "ON", "WHAT"], &rows)
    })
}

fn path(wanted: &AuditList) -> String {
    // Whoever asks for the platform's own doings wants to see them.
    let all = wanted.all || wanted.actor.as_deref() == Some("system");
    let parameters = [
        ("actor", &wanted.actor),
        ("kind", &wanted.kind),
        ("app", &wanted.app),
        ("team", &wanted.team),
        ("subject", &wanted.subject),
        ("since", &wanted.since),
        ("until", &wanted.until),
    ];
    let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    given.fold(format!("/v1/events?callers_only={}", !all), |path, (name, value)| {
        format!("{path}&{name}={}", segment(value))
    })
}

/// The newest, newest first.
async fn newest(path: &str, limit: u32, client: &Client) -> Result<Vec<EventView>, Failure> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut items: Vec<EventView> = Vec::new();
    let mut next = String::new();
    while items.len() < most {
        let left = u32::try_from(most - items.len()).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let page: Page<EventView> =
            client.get(&format!("{path}&order=newest&limit={left}{next}")).await?;
        items.extend(page.items);
        match page.next_page_token {
            Some(token) => next = format!("&page_token={}", segment(&token)),
            None => break,
        }
    }
    Ok(items)
}

async fn follow(path: &str, limit: u32, client: &Client, output: &Output) -> Result<(), Failure> {
    // What comes while the last ones are listed is not missed.
    let before = newest("/v1/events?callers_only=false", 1, client).await?;
    let mut seen = before.first().map_or(0, |event| event.seq);
    for event in newest(path, limit, client).await?.iter().rev() {
        seen = seen.max(event.seq);
        output.item(event, line)?;
    }
    let mut away = false;
    loop {
        let stream = format!("{path}&follow=true&after={seen}");
        let ended = client
            .follow(&stream, |_, data| {
                let event: EventView = serde_json::from_str(data).map_err(|error| {
                    Failure::failed(format!("this version does not understand an event: {error}"))
                })?;
                (seen, away) = (event.seq, false);
                output.item(&event, line)?;
                Ok(true)
            })
            .await;
        match ended {
            Err(failure) if !failure.is_unreachable() => return Err(failure),
            _ if away => {}
            _ => {
                output.note("The platform is away; this goes on when it is back.");
                away = true;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// When, who, from where, on what, what. Nothing in it moves a cursor.
fn row(event: &EventView) -> [String; 5] {
    let name = |text: &str| printable(text, NAME_BYTES_MAX);
    [
        when(event.at),
        name(&event.actor),
        event.source_ip.as_deref().map_or_else(|| "-".to_owned(), name),
        name(event.app.as_deref().unwrap_or(&event.subject)),
        printable(&event.what, 2 * berth_model::event::WORDS_BYTES_MAX),
    ]
}

fn line(event: &EventView) -> String {
    let [when, who, from, on, what] = row(event);
    let [a, b, c, d] = WIDTHS;
    format!("{when:<a$}  {who:<b$}  {from:<c$}  {on:<d$}  {what}")
}

#[cfg(test)]
mod tests {
    use berth_api::Timestamp;
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command, OrList};

    fn asked(arguments: &[&str]) -> String {
        let all = [&["berth", "audit", "list"][..], arguments].concat();
        let parsed = Arguments::try_parse_from(all).unwrap();
        match parsed.command {
            Command::Audit(OrList { verb: Some(Audit::List(wanted)) }) => path(&wanted),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arguments_become_parameters() {
        assert_eq!(asked(&[]), "/v1/events?callers_only=true");
        assert_eq!(
            asked(&["--actor", "a b", "--kind", "app.*", "-a", "shop", "--since", "2h"]),
            "/v1/events?callers_only=true&actor=a%20b&kind=app.%2A&app=shop&since=2h"
        );
        assert_eq!(asked(&["--all"]), "/v1/events?callers_only=false");
        assert_eq!(asked(&["--actor", "system"]), "/v1/events?callers_only=false&actor=system");
    }

    #[test]
    fn a_line_holds_no_control_characters() {
        let event = EventView {
            seq: 1,
            kind: "app.scaled".into(),
            schema: 1,
            what: "\u{1b}[2J\n".into(),
            subject: "app_1".into(),
            app: Some("\u{202e}x".into()),
            actor: "ci\u{1b}]0;\u{7}".into(),
            principal: None,
            source_ip: Some("\r\u{9b}1A".into()),
            at: Timestamp(0),
            before: serde_json::Value::Null,
            after: serde_json::Value::Null,
        };
        let line = line(&event);
        assert!(line.starts_with("1970-01-01 00:00:00  ci"), "{line}");
        let shown = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(line.chars().all(shown), "{line:?}");
    }
}
