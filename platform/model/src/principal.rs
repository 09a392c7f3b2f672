//! Who acts, and what a role may do.

use serde::{Deserialize, Serialize};

use crate::{PrincipalId, TeamId};

/// What a principal may do within its team, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything but secrets' values.
    Viewer,
    /// Pushes, deploys, scales, configures, runs commands.
    Developer,
    /// Manages tokens and keys of the team, creates and destroys apps.
    Operator,
    /// Everything, in every team, the platform itself included.
    Admin,
}

impl Role {
    /// The text form used in the database, the API and the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Viewer, Self::Developer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("'{text}' is not a role: viewer, developer, operator, admin"))
    }
}

/// Whoever makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The principal.
    pub principal: PrincipalId,
    /// Its name, for events and messages.
    pub name: String,
    /// The team that its role holds in; an admin acts in every team.
    pub team: TeamId,
    /// Its role.
    pub role: Role,
    /// Where the call came from, for events.
    pub source_ip: Option<std::net::IpAddr>,
}

impl Caller {
    /// Whether the caller may see things of `team` at all; to others they are as if absent.
    pub fn sees(&self, team: TeamId) -> bool {
        self.role == Role::Admin || self.team == team
    }
}

/// Something a caller wants to do. Each verb names the least role that may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Read anything but configuration values.
    Read,
    /// Read configuration values.
    ReadConfig,
    /// Fetch the source over git.
    Fetch,
    /// Push, deploy, roll back, cancel builds.
    Deploy,
    /// Change configuration, scale, domains; restart, stop and start.
    Change,
    /// Run a command in a new container, or in an instance.
    Run,
    /// Create an app.
    CreateApp,
    /// Rename or destroy an app.
    DestroyApp,
    /// Manage tokens and keys of a team.
    ManageAccess,
    /// Add and remove log drains of an app.
    ManageDrains,
    /// Pass over a policy that says no, with a reason that is recorded.
    OverridePolicy,
    /// Manage teams, stacks and the platform.
    ManagePlatform,
}

impl Verb {
    /// What it is, after "may not".
    pub fn words(self) -> &'static str {
        match self {
            Self::Read => "see this",
            Self::ReadConfig => "read configuration values",
            Self::Fetch => "fetch the source",
            Self::Deploy => "deploy",
            Self::Change => "change the app",
            Self::Run => "run commands",
            Self::CreateApp => "create apps",
            Self::DestroyApp => "rename or destroy the app",
            Self::ManageAccess => "manage tokens and keys",
            Self::ManageDrains => "manage log drains",
            Self::OverridePolicy => "pass over policies",
            Self::ManagePlatform => "manage the platform",
        }
    }

    /// The least role that may do it.
    pub fn least_role(self) -> Role {
        match self {
            Self::Read | Self::Fetch => Role::Viewer,
            Self::ReadConfig | Self::Deploy | Self::Change | Self::Run | Self::CreateApp => {
                Role::Developer
            }
            Self::DestroyApp | Self::ManageAccess | Self::ManageDrains | Self::OverridePolicy => {
                Role::Operator
            }
            Self::ManagePlatform => Role::Admin,
        }
    }
}

/// What a verb is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// An app or anything below it, by the team that owns it.
    OfTeam(TeamId),
    /// The platform.
    Platform,
}

/// The answer to "may this caller do this?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allowed,
    /// No, and the caller may know that the thing exists.
    Denied,
    /// No, and the answer must be the one for a thing that does not exist.
    Hidden,
}

/// The one function that every call passes: API, git, SSH, run and exec.
pub fn authorize(caller: &Caller, verb: Verb, resource: &Resource) -> Decision {
    let visible = match resource {
        Resource::OfTeam(team) => caller.sees(*team),
        Resource::Platform => true,
    };
    if !visible {
        Decision::Hidden
    } else if caller.role >= verb.least_role() {
        Decision::Allowed
    } else {
        Decision::Denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(team: TeamId, role: Role) -> Caller {
        Caller {
            principal: PrincipalId::new(0, [0; 10]),
            name: "x".into(),
            team,
            role,
            source_ip: None,
        }
    }

    #[test]
    fn another_team_is_as_if_absent_for_all_but_an_admin() {
        let (mine, other) = (TeamId::new(0, [1; 10]), TeamId::new(0, [2; 10]));
        for role in [Role::Viewer, Role::Developer, Role::Operator] {
            let decision = authorize(&caller(mine, role), Verb::Read, &Resource::OfTeam(other));
            assert_eq!(decision, Decision::Hidden, "{role:?}");
        }
        let admin =
            authorize(&caller(mine, Role::Admin), Verb::DestroyApp, &Resource::OfTeam(other));
        assert_eq!(admin, Decision::Allowed);
    }

    #[test]
    fn a_viewer_reads_and_does_nothing_else() {
        let team = TeamId::new(0, [1; 10]);
        let viewer = caller(team, Role::Viewer);
        let of = Resource::OfTeam(team);
        assert_eq!(authorize(&viewer, Verb::Read, &of), Decision::Allowed);
        for verb in [
            Verb::ReadConfig,
            Verb::Deploy,
            Verb::Change,
            Verb::Run,
            Verb::CreateApp,
            Verb::DestroyApp,
            Verb::ManageAccess,
            Verb::ManageDrains,
            Verb::ManagePlatform,
        ] {
            assert_eq!(authorize(&viewer, verb, &of), Decision::Denied, "{verb:?}");
        }
    }
}
