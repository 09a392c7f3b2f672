//! Which groups of buildpacks are tried.

use std::collections::BTreeMap;

use crate::BuildError;
use crate::manifest::{BerthToml, ProjectToml};
use crate::plan::{Chosen, Detected, Group, Member, NoMatch};

/// The groups of the built-in buildpacks. A component that was built already needs nothing else;
/// Python comes before Node, because many Python apps have a `package.json` for their assets and
/// hardly a Node app has a `requirements.txt`.
const USUAL: [&[&str]; 5] = [
    &["wasm"],
    &["python", "procfile?"],
    &["node", "static?", "procfile?"],
    &["static", "procfile?"],
    &["procfile"],
];

/// The groups to try: what the app names, else those that stand anyway.
///
/// # Errors
/// The app names a buildpack that is not installed.
pub(crate) fn groups(
    berth: &BerthToml,
    project: &ProjectToml,
    operator: &[Group],
    installed: &[String],
) -> Result<Vec<Group>, BuildError> {
    let named = [("berth.toml", &berth.buildpacks), ("project.toml", &project.buildpacks)];
    if let Some((file, ids)) = named.into_iter().find_map(|(file, ids)| Some((file, ids.as_ref()?)))
    {
        if let Some(id) = ids.iter().find(|id| !installed.contains(id)) {
            let id = id.chars().take(80).flat_map(char::escape_default).collect();
            return Err(BuildError::UnknownBuildpack { file, id, known: installed.join(", ") });
        }
        let members = ids.iter().map(|id| Member { id: id.clone(), optional: false }).collect();
        return Ok(vec![Group(members)]);
    }
    Ok(standing(operator, installed))
}

/// What the operator set, else a group for each buildpack that the usual groups do not name, and
/// then those. A group goes with a buildpack that it needs and that is not there.
pub(crate) fn standing(operator: &[Group], installed: &[String]) -> Vec<Group> {
    let groups = if operator.is_empty() { usual(installed) } else { operator.to_vec() };
    let known = |member: &Member| installed.contains(&member.id);
    groups
        .into_iter()
        .filter(|group| group.0.iter().all(|member| member.optional || known(member)))
        .map(|group| Group(group.0.into_iter().filter(known).collect()))
        .filter(|group| !group.0.is_empty())
        .collect()
}

fn usual(installed: &[String]) -> Vec<Group> {
    let member = |word: &str| Member {
        id: word.trim_end_matches('?').to_owned(),
        optional: word.ends_with('?'),
    };
    let usual: Vec<Group> =
        USUAL.iter().map(|words| Group(words.iter().map(|word| member(word)).collect())).collect();
    let named = |id: &&String| usual.iter().flat_map(|group| &group.0).any(|one| one.id == **id);
    let own = installed.iter().filter(|id| !named(id)).map(|id| Group(vec![member(id)]));
    own.chain(usual.iter().cloned()).collect()
}

/// A Procfile counts whichever buildpacks were chosen, as on Heroku and Dokku.
///
/// # Errors
/// The Procfile is not valid.
pub(crate) fn with_procfile(
    mut chosen: Vec<Chosen>,
    detected: &BTreeMap<String, Detected>,
) -> Result<Vec<Chosen>, NoMatch> {
    const ID: &str = "procfile";
    if chosen.iter().any(|chosen| chosen.id == ID) {
        return Ok(chosen);
    }
    match detected.get(ID) {
        Some(Detected::Pass(_)) => {
            chosen.push(Chosen { id: ID.to_owned(), provides: Vec::new(), requires: Vec::new() });
            Ok(chosen)
        }
        Some(Detected::Error(message) | Detected::Broken(message)) => {
            Err(NoMatch::Error { id: ID.to_owned(), message: message.clone() })
        }
        _ => Ok(chosen),
    }
}

/// The text for the one who pushed.
pub(crate) fn explain(no_match: NoMatch, explicit: bool) -> BuildError {
    match no_match {
        NoMatch::Error { message, .. } => BuildError::NoBuildpack(message),
        NoMatch::Reasons(reasons) => {
            let width = reasons.iter().map(|(id, _)| id.len()).max().unwrap_or(0);
            let mut lines = vec![if explicit {
                "The buildpacks that the app names do not fit its source:".to_owned()
            } else {
                "No buildpack fits this source:".to_owned()
            }];
            lines.extend(reasons.iter().map(|(id, reason)| format!("  {id:width$}  {reason}")));
            lines.push("Add what one of them looks for at the top of the repository, or name the buildpacks in berth.toml: [build] buildpacks = [\"…\"].".to_owned());
            BuildError::NoBuildpack(lines.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    fn shown(groups: &[Group]) -> Vec<String> {
        let member =
            |member: &Member| format!("{}{}", member.id, if member.optional { "?" } else { "" });
        groups
            .iter()
            .map(|group| group.0.iter().map(member).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn what_the_app_names_comes_before_what_the_operator_set_and_the_usual_groups() {
        let known = installed(&["node", "procfile", "python", "static", "wasm"]);
        let usual = groups(&BerthToml::default(), &ProjectToml::default(), &[], &known).unwrap();
        assert_eq!(
            shown(&usual),
            ["wasm", "python procfile?", "node static? procfile?", "static procfile?", "procfile"]
        );
        let operator = [Group(vec![Member { id: "node".to_owned(), optional: false }])];
        assert_eq!(
            shown(
                &groups(&BerthToml::default(), &ProjectToml::default(), &operator, &known).unwrap()
            ),
            ["node"]
        );
        let project =
            ProjectToml { buildpacks: Some(installed(&["static"])), ..ProjectToml::default() };
        assert_eq!(
            shown(&groups(&BerthToml::default(), &project, &operator, &known).unwrap()),
            ["static"]
        );
        let berth =
            BerthToml { buildpacks: Some(installed(&["node", "python"])), ..BerthToml::default() };
        assert_eq!(shown(&groups(&berth, &project, &operator, &known).unwrap()), ["node python"]);
    }

    #[test]
    fn an_unknown_buildpack_is_a_hard_error() {
        let berth = BerthToml { buildpacks: Some(installed(&["ruby"])), ..BerthToml::default() };
        let error = groups(&berth, &ProjectToml::default(), &[], &installed(&["node", "static"]))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "berth.toml names the buildpack 'ruby', which is not installed. There are: node, static."
        );
    }

    #[test]
    fn groups_shrink_to_what_is_installed() {
        let usual = groups(
            &BerthToml::default(),
            &ProjectToml::default(),
            &[],
            &installed(&["node", "procfile"]),
        )
        .unwrap();
        assert_eq!(shown(&usual), ["node procfile?", "procfile"]);
    }

    #[test]
    fn buildpacks_that_the_usual_groups_do_not_name_are_tried_before_them() {
        let known = installed(&["acme-make", "acme-zig", "node", "procfile"]);
        assert_eq!(
            shown(&standing(&[], &known)),
            ["acme-make", "acme-zig", "node procfile?", "procfile"]
        );
    }

    #[test]
    fn what_the_operator_set_loses_the_groups_whose_buildpacks_are_gone() {
        let member = |id: &str, optional| Member { id: id.to_owned(), optional };
        let operator = [
            Group(vec![member("gone", false), member("node", false)]),
            Group(vec![member("node", false), member("gone", true)]),
            Group(vec![member("gone", true)]),
        ];
        assert_eq!(shown(&standing(&operator, &installed(&["acme-make", "node"]))), ["node"]);
    }

    #[test]
    fn a_procfile_counts_and_a_broken_one_fails_the_build() {
        let chosen =
            || vec![Chosen { id: "node".to_owned(), provides: Vec::new(), requires: Vec::new() }];
        let said = |detected| BTreeMap::from([("procfile".to_owned(), detected)]);
        assert_eq!(with_procfile(chosen(), &said(Detected::Pass(Vec::new()))).unwrap().len(), 2);
        assert_eq!(
            with_procfile(chosen(), &said(Detected::Fail("none".to_owned()))).unwrap().len(),
            1
        );
        assert!(with_procfile(chosen(), &said(Detected::Error("line 3".to_owned()))).is_err());
    }

    #[test]
    fn every_reason_is_in_the_message() {
        let reasons = vec![
            ("wasm".to_owned(), "no app.wasm".to_owned()),
            ("python".to_owned(), "no requirements.txt".to_owned()),
        ];
        let text = explain(NoMatch::Reasons(reasons), false).to_string();
        assert!(
            text.contains("\n  wasm    no app.wasm\n  python  no requirements.txt\n"),
            "{text}"
        );
    }
}
