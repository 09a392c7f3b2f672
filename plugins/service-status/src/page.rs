//! The page: what is known of each service, as blocks.

use serde_json::{Value, json};

use crate::summary::{Answer, Named, Summary};

/// A service and what is known of it.
pub(crate) struct Shown {
    pub(crate) name: String,
    pub(crate) host: String,
    /// How long ago it said so.
    pub(crate) age_ms: u64,
    pub(crate) answer: Answer,
}

/// The blocks: first what is wrong, then all services, then what is known of the troubled ones.
pub(crate) fn blocks(services: &[Shown]) -> Vec<Value> {
    if services.is_empty() {
        let text = "No service is named yet: `berth ext config berth.service-status --set \
                    'services=[{\"name\": \"…\", \"host\": \"…\"}]'`.";
        return vec![json!({ "type": "notice", "level": "info", "text": text })];
    }
    let mut blocks: Vec<Value> = services.iter().filter_map(notice).collect();
    let rows: Vec<Value> = services.iter().map(row).collect();
    let head = ["Service", "State", "It says", "Status page"];
    blocks.push(json!({ "type": "table", "head": head, "rows": rows }));
    for service in services {
        if let Answer::State(summary) = &service.answer {
            blocks.extend(details(&service.name, summary));
        }
    }
    let oldest_s = services.iter().map(|service| service.age_ms).max().unwrap_or(0) / 1_000;
    let text = match oldest_s {
        0 => "Asked just now.".to_owned(),
        oldest_s => format!("Asked {oldest_s} s ago; each is asked once a minute."),
    };
    blocks.push(json!({ "type": "text", "text": text }));
    blocks
}

fn notice(service: &Shown) -> Option<Value> {
    let (level, text) = match &service.answer {
        Answer::Silent(why) => {
            ("warning", format!("It is not known how {} does: {why}", service.name))
        }
        Answer::State(summary) if summary.is_down() => {
            ("error", format!("{}: {}", service.name, summary.description))
        }
        Answer::State(_) => return None,
    };
    Some(json!({ "type": "notice", "level": level, "text": text }))
}

fn row(service: &Shown) -> Value {
    let (state, says) = match &service.answer {
        Answer::State(summary) => (summary.state(), summary.description.as_str()),
        Answer::Silent(_) => ("not known", ""),
    };
    json!([service.name, state, says, service.host])
}

/// What does not work of a service.
fn details(name: &str, summary: &Summary) -> Vec<Value> {
    if summary.incidents.is_empty() && summary.troubled.is_empty() {
        return Vec::new();
    }
    let mut blocks = vec![json!({ "type": "heading", "text": name })];
    let line = |one: &Named| format!("{} ({})", one.name, one.state);
    if !summary.incidents.is_empty() {
        let items: Vec<String> = summary.incidents.iter().map(line).collect();
        blocks.push(json!({ "type": "list", "items": items }));
    }
    if !summary.troubled.is_empty() {
        let entry = |one: &Named| json!({ "key": one.name, "value": one.state });
        let entries: Vec<Value> = summary.troubled.iter().map(entry).collect();
        blocks.push(json!({ "type": "keyvalue", "entries": entries }));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(indicator: &str) -> Summary {
        Summary {
            indicator: indicator.to_owned(),
            description: "In words".to_owned(),
            troubled: Vec::new(),
            incidents: Vec::new(),
        }
    }

    fn shown(name: &str, answer: Answer) -> Shown {
        Shown { name: name.to_owned(), host: format!("{name}.example"), age_ms: 12_345, answer }
    }

    #[test]
    fn without_services_it_says_how_to_name_them() {
        let [only] = &blocks(&[])[..] else { panic!("one block") };
        assert_eq!(only["type"], "notice");
        assert!(only["text"].as_str().unwrap().contains("berth ext config"), "{only}");
    }

    #[test]
    fn a_silent_service_is_a_notice_and_a_row_and_the_others_are_shown() {
        let blocks = blocks(&[
            shown("mail", Answer::Silent("it answered 503".to_owned())),
            shown("chat", Answer::State(summary("none"))),
        ]);
        assert_eq!(
            blocks,
            [
                json!({ "type": "notice", "level": "warning",
                    "text": "It is not known how mail does: it answered 503" }),
                json!({ "type": "table", "head": ["Service", "State", "It says", "Status page"],
                    "rows": [["mail", "not known", "", "mail.example"],
                             ["chat", "works", "In words", "chat.example"]] }),
                json!({ "type": "text", "text": "Asked 12 s ago; each is asked once a minute." }),
            ]
        );
    }

    #[test]
    fn a_service_that_is_down_comes_first_and_its_parts_are_named() {
        let named = |name: &str, state: &str| Named { name: name.into(), state: state.into() };
        let down = Summary {
            troubled: vec![named("API", "major outage")],
            incidents: vec![named("No answers", "investigating")],
            ..summary("critical")
        };
        let blocks = blocks(&[shown("chat", Answer::State(down))]);
        assert_eq!(
            blocks[0],
            json!({ "type": "notice", "level": "error", "text": "chat: In words" })
        );
        assert_eq!(blocks[1]["rows"][0][1], "down");
        assert_eq!(blocks[2], json!({ "type": "heading", "text": "chat" }));
        assert_eq!(blocks[3], json!({ "type": "list", "items": ["No answers (investigating)"] }));
        assert_eq!(blocks[4]["entries"], json!([{ "key": "API", "value": "major outage" }]));
    }
}
