//! Teams, tokens and keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// Who the caller is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// Name of the principal.
    pub name: String,
    /// Its team.
    pub team: String,
    /// Its role.
    pub role: String,
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TeamView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Creates a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTeam {
    /// Its name.
    pub name: String,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The team it acts in; nothing where it acts as a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The user it acts as, with no more than its role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it may do, at most.
    pub role: String,
    /// What it may be used for: all, deploy or read.
    pub scope: String,
    /// The only apps that it is good for; those that are gone are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Creates a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// A name for people.
    pub name: String,
    /// The team it acts in; the caller's where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// viewer, developer, operator or admin. With `mine` it may be absent: all that the user may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// It acts as the user who creates it, in every team of theirs, and ends with the user.
    #[serde(default)]
    pub mine: bool,
    /// What it may be used for, whatever its role: all, deploy or read; all where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The only apps that it is good for: it finds no other, and manages nothing beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<String>>,
    /// Days until it ends; never where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_days: Option<u32>,
}

/// A token that was just made: the only answer that holds its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token.
    pub token: TokenView,
    /// Its secret; it is not stored and cannot be shown again.
    pub secret: String,
}

/// An SSH public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The team whose apps it may push to; nothing where it acts as a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The user it acts as, with no more than its role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it may do.
    pub role: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// `ssh-ed25519 AAAA…`.
    pub public_key: String,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Adds an SSH public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddKey {
    /// A name for people.
    pub name: String,
    /// `ssh-ed25519 AAAA… comment`.
    pub public_key: String,
    /// The team whose apps it may push to; the caller's where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// viewer, developer, operator or admin. With `mine` it may be absent: all that the user may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// It acts as the user who adds it, in every team of theirs, and ends with the user.
    #[serde(default)]
    pub mine: bool,
}
