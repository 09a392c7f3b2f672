//! What a status page says: the form `summary.json` of the Statuspage API, version 2.
//!
//! Takes the bytes of an answer, gives the little that is shown and kept. Whoever wrote them is
//! somebody else: counts and lengths are bounded here.

use serde::{Deserialize, Serialize};

/// Most parts and incidents of a service that are shown.
const SHOWN_MAX: usize = 10;
/// Longest text, characters.
const TEXT_MAX: usize = 150;

/// What is known of a service.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It said how it does.
    State(Summary),
    /// It did not, and why.
    Silent(String),
}

/// How a service does.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// `none`, `minor`, `major`, `critical` or `maintenance`.
    pub(crate) indicator: String,
    /// The same in words of its own.
    pub(crate) description: String,
    /// Parts that do not work as they should.
    pub(crate) troubled: Vec<Named>,
    /// Incidents that are not over.
    pub(crate) incidents: Vec<Named>,
}

/// Something with a name and a state.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) state: String,
}

#[derive(Deserialize)]
struct Said {
    status: SaidStatus,
    #[serde(default)]
    components: Vec<SaidComponent>,
    #[serde(default)]
    incidents: Vec<SaidIncident>,
}

#[derive(Deserialize)]
struct SaidStatus {
    indicator: String,
    description: String,
}

#[derive(Deserialize)]
struct SaidComponent {
    name: String,
    status: String,
    /// Stands for its parts, which are in the list as well.
    #[serde(default)]
    group: bool,
}

#[derive(Deserialize)]
struct SaidIncident {
    name: String,
    status: String,
}

impl Summary {
    /// Reads an answer.
    ///
    /// # Errors
    /// What is not of the form, in words.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        let said: Said = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let troubled = said
            .components
            .into_iter()
            .filter(|part| !part.group && part.status != "operational")
            .map(|part| named(&part.name, &part.status));
        let incidents = said
            .incidents
            .into_iter()
            .filter(|one| !matches!(one.status.as_str(), "resolved" | "postmortem"))
            .map(|one| named(&one.name, &one.status));
        Ok(Self {
            indicator: cut(&said.status.indicator),
            description: cut(&said.status.description),
            troubled: troubled.take(SHOWN_MAX).collect(),
            incidents: incidents.take(SHOWN_MAX).collect(),
        })
    }

    /// How it does, in a word or two.
    pub(crate) fn state(&self) -> &str {
        match self.indicator.as_str() {
            "none" => "works",
            "minor" => "minor trouble",
            "major" => "major trouble",
            "critical" => "down",
            other => other,
        }
    }

    /// Whether it does not do what it is there for.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.indicator.as_str(), "major" | "critical")
    }
}

fn named(name: &str, state: &str) -> Named {
    Named { name: cut(name), state: cut(state).replace('_', " ") }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_summary_is_refused() {
        for (body, told) in [
            ("", "EOF"),
            ("<html>", "expected value"),
            ("{}", "missing field `status`"),
            (r#"{"status":{"indicator":"none"}}"#, "missing field `description`"),
            (r#"{"status":{"indicator":4,"description":""}}"#, "expected a string"),
        ] {
            let error = Summary::read(body.as_bytes()).unwrap_err();
            assert!(error.contains(told), "{body}: {error}");
        }
    }

    #[test]
    fn what_works_and_what_is_over_is_left_out() {
        let body = json!({
            "page": { "id": "x" },
            "status": { "indicator": "major", "description": "Partial System Outage" },
            "components": [
                { "name": "All", "status": "major_outage", "group": true },
                { "name": "API", "status": "partial_outage", "group": false },
                { "name": "Web", "status": "operational" },
            ],
            "incidents": [
                { "name": "Slow answers", "status": "investigating", "impact": "major" },
                { "name": "Old", "status": "resolved" },
                { "name": "Older", "status": "postmortem" },
            ],
        });
        let summary = Summary::read(body.to_string().as_bytes()).unwrap();
        let one = |name: &str, state: &str| Named { name: name.into(), state: state.into() };
        assert_eq!(summary.troubled, [one("API", "partial outage")]);
        assert_eq!(summary.incidents, [one("Slow answers", "investigating")]);
        assert_eq!((summary.state(), summary.is_down()), ("major trouble", true));
    }

    #[test]
    fn what_somebody_else_wrote_is_bounded() {
        let part = json!({ "name": "ä".repeat(1_000), "status": "x".repeat(1_000) });
        let body = json!({
            "status": { "indicator": "strange", "description": "x".repeat(100_000) },
            "components": vec![part.clone(); 1_000], "incidents": vec![part; 1_000],
        });
        let summary = Summary::read(body.to_string().as_bytes()).unwrap();
        assert_eq!((summary.state(), summary.is_down()), ("strange", false));
        assert_eq!((summary.troubled.len(), summary.incidents.len()), (10, 10));
        assert_eq!(summary.troubled[0].name.chars().count(), 150);
        // Ten of them are kept within the quota.
        assert!(serde_json::to_vec(&Answer::State(summary)).unwrap().len() < 25_000);
    }
}
