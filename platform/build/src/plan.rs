//! Which buildpacks build an app: order groups and build plans, as Cloud Native Buildpacks resolve
//! them (Buildpack API 0.12, "Phase #1: Detection"). Pure.

use std::collections::BTreeMap;

/// Most combinations of alternatives that are tried in one group.
const TRIALS_MAX: usize = 10_000;

/// An ordered list of buildpacks that build together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(pub Vec<Member>);

/// A buildpack in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// The group also stands without it.
    pub optional: bool,
}

/// Something that a buildpack needs, with metadata for whoever provides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Require {
    /// What.
    pub name: String,
    /// JSON.
    pub metadata: String,
}

/// One alternative of a buildpack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What it can provide.
    pub provides: Vec<String>,
    /// What it needs.
    pub requires: Vec<Require>,
}

/// What a buildpack said of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detected {
    /// It fits, with its alternatives, best first.
    Pass(Vec<Plan>),
    /// It does not fit, and why.
    Fail(String),
    /// It could not say; the message names what to mend in the source.
    Error(String),
    /// It cannot be asked; the message says why, which is none of the source's faults.
    Broken(String),
}

/// A buildpack that builds, with what others require of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its id.
    pub id: String,
    /// Names that it provides.
    pub provides: Vec<String>,
    /// The requirements on those names, in the order of the group.
    pub requires: Vec<Require>,
}

/// Why no group fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoMatch {
    /// A buildpack of a group that would fit failed; its id and message.
    Error {
        /// Which.
        id: String,
        /// Its message.
        message: String,
    },
    /// None fits; every buildpack's reason, in the order of the groups.
    Reasons(Vec<(String, String)>),
}

/// The first group that passes.
///
/// # Errors
/// [`NoMatch`] with what each buildpack said.
pub fn resolve(
    groups: &[Group],
    detected: &BTreeMap<String, Detected>,
) -> Result<Vec<Chosen>, NoMatch> {
    let mut unresolved = Vec::new();
    for group in groups {
        match passing(group, detected) {
            Ok(members) => match trial(&members) {
                Ok(chosen) => return Ok(chosen),
                Err(reason) => unresolved.push(reason),
            },
            Err(Some((id, message))) => return Err(NoMatch::Error { id, message }),
            Err(None) => {}
        }
    }
    let mut reasons: Vec<(String, String)> = Vec::new();
    for member in groups.iter().flat_map(|group| &group.0) {
        if reasons.iter().all(|(id, _)| *id != member.id)
            && let Some(Detected::Fail(reason) | Detected::Error(reason) | Detected::Broken(reason)) =
                detected.get(&member.id)
        {
            reasons.push((member.id.clone(), reason.clone()));
        }
    }
    reasons.extend(unresolved);
    Err(NoMatch::Reasons(reasons))
}

type Passed<'a> = (&'a Member, &'a [Plan]);

/// The members of a group that passed; an error when a required one did not. The inner value is
/// there when the only thing in the way is a buildpack's error.
fn passing<'a>(
    group: &'a Group,
    detected: &'a BTreeMap<String, Detected>,
) -> Result<Vec<Passed<'a>>, Option<(String, String)>> {
    let mut passed = Vec::new();
    let mut error = None;
    for member in &group.0 {
        match detected.get(&member.id) {
            Some(Detected::Pass(plans)) => passed.push((member, plans.as_slice())),
            Some(Detected::Error(message)) => {
                error.get_or_insert_with(|| (member.id.clone(), message.clone()));
            }
            Some(Detected::Fail(_) | Detected::Broken(_)) | None if member.optional => {}
            Some(Detected::Fail(_) | Detected::Broken(_)) | None => return Err(None),
        }
    }
    match error {
        Some(error) => Err(Some(error)),
        None if passed.is_empty() => Err(None),
        None => Ok(passed),
    }
}

/// Tries the alternatives from the left, depth first; says why the last one failed.
fn trial(members: &[Passed<'_>]) -> Result<Vec<Chosen>, (String, String)> {
    let empty = Plan::default();
    let counts: Vec<usize> = members.iter().map(|(_, plans)| plans.len().max(1)).collect();
    let mut choice = vec![0; members.len()];
    let mut reason = (String::new(), String::new());
    for _ in 0..TRIALS_MAX {
        let plans: Vec<&Plan> = members
            .iter()
            .zip(&choice)
            .map(|((_, plans), &at)| plans.get(at).unwrap_or(&empty))
            .collect();
        match settle(members, &plans) {
            Ok(chosen) => return Ok(chosen),
            Err(why) => reason = why,
        }
        // The next combination: the last member's alternatives change fastest.
        let Some(at) = (0..choice.len()).rev().find(|&at| choice[at] + 1 < counts[at]) else {
            break;
        };
        choice[at] += 1;
        choice[at + 1..].fill(0);
    }
    Err(reason)
}

/// Checks one combination: every requirement is provided by the same or an earlier member, every
/// provision is required by the same or a later one. An optional member that breaks this leaves.
fn settle(members: &[Passed<'_>], plans: &[&Plan]) -> Result<Vec<Chosen>, (String, String)> {
    let mut present: Vec<bool> = vec![true; members.len()];
    loop {
        let in_group = |at: &usize| present[*at];
        let provides =
            |at: usize, name: &str| plans[at].provides.iter().any(|provided| provided == name);
        let requires =
            |at: usize, name: &str| plans[at].requires.iter().any(|required| required.name == name);
        let lonely = (0..members.len()).filter(in_group).find_map(|at| {
            let unmet = plans[at].requires.iter().find(|require| {
                !(0..=at).filter(in_group).any(|earlier| provides(earlier, &require.name))
            });
            let unused = plans[at].provides.iter().find(|name| {
                !(at..members.len()).filter(in_group).any(|later| requires(later, name))
            });
            unmet
                .map(|require| {
                    (
                        at,
                        format!(
                            "it needs '{}', which no buildpack before it provides",
                            require.name
                        ),
                    )
                })
                .or_else(|| {
                    unused.map(|name| {
                        (at, format!("it provides '{name}', which no buildpack after it needs"))
                    })
                })
        });
        match lonely {
            Some((at, _)) if members[at].0.optional => present[at] = false,
            Some((at, why)) => return Err((members[at].0.id.clone(), why)),
            None => break,
        }
    }
    let chosen: Vec<Chosen> = (0..members.len())
        .filter(|&at| present[at])
        .map(|at| Chosen {
            id: members[at].0.id.clone(),
            provides: plans[at].provides.clone(),
            requires: (at..members.len())
                .filter(|&later| present[later])
                .flat_map(|later| &plans[later].requires)
                .filter(|require| plans[at].provides.contains(&require.name))
                .cloned()
                .collect(),
        })
        .collect();
    if chosen.is_empty() {
        return Err((
            String::new(),
            "every buildpack of the group is optional and none is needed".to_owned(),
        ));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests;
