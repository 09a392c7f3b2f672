//! Users, and the sessions in which they use the console.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// A role in a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TeamRole {
    /// The team.
    pub team: String,
    /// viewer, developer, operator or admin; an admin in one team acts in every team.
    pub role: String,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// active or disabled.
    pub state: String,
    /// Whether a password was chosen.
    pub has_password: bool,
    /// The roles, by team.
    pub teams: Vec<TeamRole>,
    /// When the user was made.
    pub created_at: Timestamp,
}

/// Creates a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// The name.
    pub name: String,
    /// The team of the first role; the caller's where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The first role: viewer, developer, operator or admin. Without it the user has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// Lets a user act, or no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// active or disabled.
    pub state: String,
}

/// Gives a role in a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRole {
    /// viewer, developer, operator or admin.
    pub role: String,
}

/// A link that signs a user in, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignInLink {
    /// Where to open it. What follows the `#` is secret, and is sent to nobody by following it.
    pub url: String,
    /// When it is good no more.
    pub expires_at: Timestamp,
}

/// A user who was just made, with the link to begin with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserCreated {
    /// The user.
    pub user: UserView,
    /// The link; it is not stored and cannot be shown again.
    pub link: SignInLink,
}

/// Signs in: with `user` and `password`, or with the secret of a `link`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// What follows the `#` of a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Chooses a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChoosePassword {
    /// The one before; not in a session that a link began and that has chosen none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The new one, of 12 characters to 128 bytes.
    pub new: String,
}

/// What the caller may do in a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TeamRights {
    /// The team.
    pub team: String,
    /// The role there.
    pub role: String,
    /// What it allows: `read`, `deploy`, `change`, …
    pub may: Vec<String>,
}

/// Who the caller is, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// The id of the session; nothing where the caller has none, but an access token.
    pub id: Option<String>,
    /// The name of the user; nothing where it is a team's token.
    pub user: Option<String>,
    /// The name that stands in events.
    pub name: String,
    /// Whether the caller manages the platform and acts in every team.
    pub admin: bool,
    /// Where things go for which no team is named.
    pub team: String,
    /// What may be done in each team.
    pub teams: Vec<TeamRights>,
    /// What may be done with the platform itself: `read`, `manage_platform`.
    pub platform: Vec<String>,
    /// Whether the user has a password.
    pub has_password: bool,
    /// Whether this session may choose a password without the one before, which it should do first.
    pub may_set_password: bool,
    /// When the session ends unless it is used before; of a token when it ends.
    pub expires_at: Option<Timestamp>,
    /// When the session ends however it is used.
    pub ends_at: Option<Timestamp>,
}

/// A session of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserSessionView {
    /// Its id.
    pub id: String,
    /// Whether this call was made in it.
    pub current: bool,
    /// What the browser called itself.
    pub agent: String,
    /// Where it began.
    pub source_ip: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, about.
    pub seen_at: Timestamp,
    /// When it ends unless it is used before.
    pub expires_at: Timestamp,
}
