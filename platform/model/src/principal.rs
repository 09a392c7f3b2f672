//! Who acts, and what a role may do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{App, AppId, KeyId, PrincipalId, SessionId, TeamId, TokenId};

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

/// What a token may be used for, whatever the role of its bearer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything that the role allows.
    #[default]
    All,
    /// Reading, pushing and deploying.
    Deploy,
    /// Reading.
    Read,
}

impl Scope {
    /// The text form used in the database, the API and the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Deploy => "deploy",
            Self::Read => "read",
        }
    }

    /// Whether it has a verb in it. Values of configurations are for neither of the small ones.
    pub fn has(self, verb: Verb) -> bool {
        match self {
            Self::All => true,
            Self::Deploy => matches!(verb, Verb::Read | Verb::Fetch | Verb::Deploy),
            Self::Read => matches!(verb, Verb::Read | Verb::Fetch),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::All, Self::Deploy, Self::Read]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| format!("'{text}' is not a scope: all, deploy, read"))
    }
}

/// What a caller showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// An access token.
    Token(TokenId),
    /// An SSH key.
    Key(KeyId),
    /// The cookie of a console session.
    Session(SessionId),
}

/// Whoever makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The principal.
    pub principal: PrincipalId,
    /// Its name, for events and messages.
    pub name: String,
    /// Where things go for which it names no team.
    pub team: TeamId,
    /// Its role in each team; who is an admin in one acts in every team and for the platform.
    pub roles: BTreeMap<TeamId, Role>,
    /// What the token may be used for.
    pub scope: Scope,
    /// The only apps that the token is good for.
    pub apps: Option<BTreeSet<AppId>>,
    /// What it showed.
    pub via: Via,
    /// Where the call came from, for events.
    pub source_ip: Option<std::net::IpAddr>,
}

impl Caller {
    /// Its role in a team; nothing where it has none, and what is there is as if absent.
    pub fn role_in(&self, team: TeamId) -> Option<Role> {
        if self.has_admin_role() { Some(Role::Admin) } else { self.roles.get(&team).copied() }
    }

    /// The highest of its roles.
    pub fn highest_role(&self) -> Option<Role> {
        self.roles.values().copied().max()
    }

    fn has_admin_role(&self) -> bool {
        self.roles.values().any(|role| *role == Role::Admin)
    }

    /// Whether nothing is hidden from it.
    pub fn sees_all(&self) -> bool {
        self.has_admin_role() && self.apps.is_none()
    }

    /// Whether it may know that an app exists.
    pub fn sees(&self, app: &App) -> bool {
        authorize(self, Verb::Read, &app.into()) != Decision::Hidden
    }

    /// What lists have for it.
    pub fn visible(&self) -> Visible {
        if self.sees_all() {
            return Visible::All;
        }
        let teams = match self.has_admin_role() {
            true => None,
            false => Some(self.roles.keys().copied().collect()),
        };
        Visible::Only { teams, apps: self.apps.clone() }
    }

    /// What lists have for it that are of those only who may do this in a team.
    pub fn visible_with(&self, verb: Verb) -> Visible {
        let may =
            |team: &TeamId| authorize(self, verb, &Resource::OfTeam(*team)) == Decision::Allowed;
        match self.visible() {
            Visible::Only { teams: Some(teams), apps } => {
                Visible::Only { teams: Some(teams.into_iter().filter(may).collect()), apps }
            }
            all => all,
        }
    }

    /// Whether it may do this in any team.
    pub fn may_somewhere(&self, verb: Verb) -> bool {
        let may = |resource: &Resource| authorize(self, verb, resource) == Decision::Allowed;
        self.roles.keys().any(|team| match &self.apps {
            None => may(&Resource::OfTeam(*team)),
            Some(apps) => apps.iter().any(|app| may(&Resource::App { team: *team, app: *app })),
        })
    }
}

/// What a list is limited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// Everything.
    All,
    /// What belongs to some teams and is about some apps; nothing asks for nothing.
    Only {
        /// The teams.
        teams: Option<BTreeSet<TeamId>>,
        /// The apps.
        apps: Option<BTreeSet<AppId>>,
    },
}

impl Visible {
    /// What belongs to a team.
    pub fn team(team: TeamId) -> Self {
        Self::Only { teams: Some([team].into()), apps: None }
    }

    /// The teams, where it is limited to some.
    pub fn teams(&self) -> Option<&BTreeSet<TeamId>> {
        match self {
            Self::All => None,
            Self::Only { teams, .. } => teams.as_ref(),
        }
    }

    /// The apps, where it is limited to some.
    pub fn apps(&self) -> Option<&BTreeSet<AppId>> {
        match self {
            Self::All => None,
            Self::Only { apps, .. } => apps.as_ref(),
        }
    }
}

impl From<Option<TeamId>> for Visible {
    fn from(team: Option<TeamId>) -> Self {
        team.map_or(Self::All, Self::team)
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
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Read,
        Self::ReadConfig,
        Self::Fetch,
        Self::Deploy,
        Self::Change,
        Self::Run,
        Self::CreateApp,
        Self::DestroyApp,
        Self::ManageAccess,
        Self::ManageDrains,
        Self::OverridePolicy,
        Self::ManagePlatform,
    ];

    /// The text form used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadConfig => "read_config",
            Self::Fetch => "fetch",
            Self::Deploy => "deploy",
            Self::Change => "change",
            Self::Run => "run",
            Self::CreateApp => "create_app",
            Self::DestroyApp => "destroy_app",
            Self::ManageAccess => "manage_access",
            Self::ManageDrains => "manage_drains",
            Self::OverridePolicy => "override_policy",
            Self::ManagePlatform => "manage_platform",
        }
    }

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
    /// What a team has besides its apps: tokens, keys, apps to come.
    OfTeam(TeamId),
    /// An app, or anything below it.
    App {
        /// The team that owns it.
        team: TeamId,
        /// Which one.
        app: AppId,
    },
    /// The platform.
    Platform,
}

impl From<&App> for Resource {
    fn from(app: &App) -> Self {
        Self::App { team: app.team, app: app.id }
    }
}

impl Resource {
    /// The role that a caller has for it; nothing where it is as if absent.
    pub fn role_of(&self, caller: &Caller) -> Option<Role> {
        match self {
            Self::OfTeam(team) | Self::App { team, .. } => caller.role_in(*team),
            // Everybody who is known sees what it is.
            Self::Platform if caller.has_admin_role() => Some(Role::Admin),
            Self::Platform => Some(Role::Viewer),
        }
    }
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
    let Some(role) = resource.role_of(caller) else { return Decision::Hidden };
    if let Some(apps) = &caller.apps {
        match resource {
            Resource::App { app, .. } if apps.contains(app) => {}
            Resource::App { .. } => return Decision::Hidden,
            // Lists are read, and have its apps only.
            Resource::OfTeam(_) | Resource::Platform if verb == Verb::Read => {}
            Resource::OfTeam(_) | Resource::Platform => return Decision::Denied,
        }
    }
    if role >= verb.least_role() && caller.scope.has(verb) {
        Decision::Allowed
    } else {
        Decision::Denied
    }
}

#[cfg(test)]
mod tests;
