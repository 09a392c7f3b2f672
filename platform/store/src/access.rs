//! Users, teams, tokens, SSH keys, sessions of the console, and the callers that they make.

mod caller;
mod keys;
mod links;
mod passwords;
mod sessions;
mod teams;
mod tokens;
mod users;

pub use caller::Valid;
pub use keys::{Key, NewKey};
pub use links::Linked;
pub use sessions::{NewSession, SessionLimits, SignedIn};
pub use teams::Team;
pub use tokens::{NewToken, Token, token_hash};
pub use users::{Membership, NewUser, User, UserState};

use berth_model::{PrincipalId, TeamId, UserId};
use sqlx::sqlite::SqliteConnection;

use crate::StoreError;

/// Whose a token or a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A team's: its role holds there.
    Team(TeamId),
    /// A user's: it acts as that user, with no more than its role.
    User(UserId),
}

impl Owner {
    /// The team, where it is a team's.
    pub fn team(self) -> Option<TeamId> {
        match self {
            Self::Team(team) => Some(team),
            Self::User(_) => None,
        }
    }

    /// The user, where it is a user's.
    pub fn user(self) -> Option<UserId> {
        match self {
            Self::Team(_) => None,
            Self::User(user) => Some(user),
        }
    }

    fn of(row: &crate::row::Columns<'_>) -> Result<Self, StoreError> {
        match row.opt_parsed("user_id")? {
            Some(user) => Ok(Self::User(user)),
            None => row.parsed("team_id").map(Self::Team),
        }
    }
}

/// Writes a new principal.
async fn insert_principal(
    db: &mut SqliteConnection,
    id: PrincipalId,
    kind: &str,
    name: &str,
    at_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO principals (id, kind, name, created_at_ms) VALUES ($1, $2, $3, $4)")
        .bind(id.to_string())
        .bind(kind)
        .bind(name)
        .bind(at_ms)
        .execute(db)
        .await?;
    Ok(())
}

/// Whose principal a token or a key acts as: its own, or its user's.
async fn principal_of(
    db: &mut SqliteConnection,
    owner: Owner,
    own: PrincipalId,
    kind: &str,
    name: &str,
    at_ms: i64,
) -> Result<PrincipalId, StoreError> {
    match owner {
        Owner::Team(_) => {
            insert_principal(db, own, kind, name, at_ms).await?;
            Ok(own)
        }
        Owner::User(user) => Ok(users::by_id(db, user).await?.principal),
    }
}
