//! Saying yes: what an extension asks for is shown, and somebody decides.

use std::io::Write;

use berth_api::ExtensionReview;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;

/// What came of showing it.
pub(super) enum Said {
    /// Somebody did.
    Yes,
    /// Somebody did not.
    No,
    /// There is nobody to ask.
    Nobody,
}

/// What a platform says of a component, and where in a registry it lies by digest.
#[derive(Serialize)]
pub(super) struct Placed<'p, T> {
    #[serde(flatten)]
    pub(super) of: &'p T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<&'p str>,
}

/// Shows what an extension asks for and asks about it, where somebody is there.
pub(super) fn ask(
    review: &ExtensionReview,
    place: Option<&str>,
    output: &Output,
) -> Result<Said, Failure> {
    if !output.may_ask() {
        return Ok(Said::Nobody);
    }
    let mut terminal = std::io::stderr();
    let question = if review.asks.is_empty() { "Install it?" } else { "Grant all of this?" };
    write!(terminal, "{}\n{question} [y/N] ", text(review, place))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(if matches!(answer.as_str(), "y" | "yes") { Said::Yes } else { Said::No })
}

/// A review for people. What is more than was reviewed before has a `+`, where something was.
pub(super) fn text(review: &ExtensionReview, place: Option<&str>) -> String {
    let update = review.installed.as_ref().filter(|version| **version != review.version);
    let mut text = format!("{} {} ({})", review.id, review.version, review.kind);
    if let Some(installed) = update {
        text.push_str(&format!("; {installed} is installed"));
    }
    text.push('\n');
    if !review.description.is_empty() {
        text.push_str(&format!("{}\n", review.description));
    }
    text.push_str(&format!("component {}\n", review.component));
    if let Some(place) = place {
        text.push_str(&format!("from {place}\n"));
    }
    text.push('\n');
    if review.asks.is_empty() {
        text.push_str("It asks for nothing beyond its configuration and its log.\n");
        return text;
    }
    let differs = review.installed.is_some() && review.beyond.len() < review.asks.len();
    text.push_str(match (differs, review.beyond.is_empty()) {
        (true, true) => "It asks for no more than was reviewed before:\n",
        (true, false) => "It asks for this; what was not asked for before has a +:\n",
        (false, _) => "It asks for this, and gets nothing else:\n",
    });
    for line in &review.asks {
        let mark = if differs && review.beyond.contains(&line.what) { '+' } else { ' ' };
        text.push_str(&format!("{mark} - {}\n", line.what));
        if !line.why.is_empty() {
            text.push_str(&format!("      why: {}\n", line.why));
        }
    }
    text.push_str(&format!("\nThe hash of this set is {}\n", review.hash));
    text
}

#[cfg(test)]
mod tests {
    use berth_api::CapabilityLine;

    use super::*;

    fn review(installed: Option<&str>, beyond: &[&str]) -> ExtensionReview {
        let line =
            |what: &str, why: &str| CapabilityLine { what: what.to_owned(), why: why.to_owned() };
        ExtensionReview {
            id: "acme.notify".to_owned(),
            kind: "hook".to_owned(),
            version: "0.2.0".to_owned(),
            component: "sha256:0a".to_owned(),
            description: "Tells people.".to_owned(),
            hash: "00ff".to_owned(),
            asks: vec![
                line("sends POST to chat.example on port 443", "to tell"),
                line("knows the time", ""),
            ],
            beyond: beyond.iter().map(|what| (*what).to_owned()).collect(),
            installed: installed.map(str::to_owned),
        }
    }

    #[test]
    fn a_new_extension_is_shown_whole() {
        let both = ["sends POST to chat.example on port 443", "knows the time"];
        insta::assert_snapshot!(text(&review(None, &both), None));
    }

    #[test]
    fn one_from_a_registry_is_shown_with_its_place_by_digest() {
        let place = "registry.example/acme/notify@sha256:0b";
        let text = text(&review(None, &[]), Some(place));
        assert!(
            text.contains("component sha256:0a\nfrom registry.example/acme/notify@sha256:0b\n")
        );
    }

    #[test]
    fn an_update_is_shown_by_what_it_asks_for_more() {
        insta::assert_snapshot!(text(&review(Some("0.1.0"), &["knows the time"]), None));
        let same = text(&review(Some("0.1.0"), &[]), None);
        assert!(same.contains("no more than was reviewed before"), "{same}");
        assert!(!same.contains("+ -"), "{same}");
    }

    #[test]
    fn an_extension_that_asks_for_nothing_says_so() {
        let review = ExtensionReview { asks: Vec::new(), ..review(None, &[]) };
        assert!(text(&review, None).ends_with("nothing beyond its configuration and its log.\n"));
    }
}
