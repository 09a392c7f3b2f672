//! What a credential is worth now: a caller, and until when.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_model::principal::{Scope, Via};
use berth_model::{Caller, Role, TeamId, UserId};
use sqlx::sqlite::SqliteConnection;

use super::keys::Key;
use super::sessions::{self, SessionLimits, SignedIn};
use super::tokens::{self, Token, token_hash};
use super::users::{self, User, UserState};
use super::{Owner, keys, teams};
use crate::row::Columns;
use crate::{Store, StoreError};

/// A caller whose credential is valid now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valid {
    /// Who.
    pub caller: Caller,
    /// Unix milliseconds; invalid from then on, unless it is used before.
    pub until_ms: Option<i64>,
}

/// A user who may act, and the roles.
async fn acting(
    db: &mut SqliteConnection,
    id: UserId,
    no_more_than: Role,
) -> Result<Option<(User, BTreeMap<TeamId, Role>)>, StoreError> {
    let user = users::by_id(db, id).await?;
    if user.state != UserState::Active {
        return Ok(None);
    }
    let roles = users::roles(db, id).await?;
    let roles = roles.into_iter().map(|(team, role)| (team, role.min(no_more_than))).collect();
    Ok(Some((user, roles)))
}

/// Where a user's things go: the only team, or else the one that is there from the start.
fn home(roles: &BTreeMap<TeamId, Role>) -> TeamId {
    match roles.keys().next() {
        Some(only) if !roles.contains_key(&teams::default_team()) => *only,
        _ => teams::default_team(),
    }
}

async fn of_token(db: &mut SqliteConnection, token: Token) -> Result<Option<Caller>, StoreError> {
    let via = Via::Token(token.id);
    let (scope, apps) = (token.scope, token.apps);
    Ok(match token.owner {
        Owner::Team(team) => Some(Caller {
            principal: token.principal,
            name: token.name,
            team,
            roles: [(team, token.role)].into(),
            scope,
            apps,
            via,
            source_ip: None,
        }),
        Owner::User(user) => acting(db, user, token.role).await?.map(|(user, roles)| Caller {
            principal: user.principal,
            name: user.name.to_string(),
            team: home(&roles),
            roles,
            scope,
            apps,
            via,
            source_ip: None,
        }),
    })
}

async fn of_key(db: &mut SqliteConnection, key: Key) -> Result<Option<Caller>, StoreError> {
    let as_token = Token {
        // Never looked at: what the key is follows.
        id: berth_model::TokenId::new(0, [0; 10]),
        principal: key.principal,
        name: key.name,
        owner: key.owner,
        role: key.role,
        scope: Scope::All,
        apps: None,
        expires_at_ms: None,
        created_at_ms: key.created_at_ms,
    };
    let caller = of_token(db, as_token).await?;
    Ok(caller.map(|caller| Caller { via: Via::Key(key.id), ..caller }))
}

async fn of_session(
    db: &mut SqliteConnection,
    session: &SignedIn,
) -> Result<Option<Caller>, StoreError> {
    let acting = acting(db, session.user, Role::Admin).await?;
    Ok(acting.map(|(user, roles)| Caller {
        principal: user.principal,
        name: user.name.to_string(),
        team: home(&roles),
        roles,
        scope: Scope::All,
        apps: None,
        via: Via::Session(session.id),
        source_ip: None,
    }))
}

impl Store {
    /// Who bears a token, when it is valid now.
    ///
    /// # Errors
    /// What the database says.
    pub async fn caller_by_token(
        &self,
        secret: &str,
        source_ip: Option<IpAddr>,
        at_ms: i64,
    ) -> Result<Option<Caller>, StoreError> {
        let mut tx = self.read().await?;
        let row = sqlx::query("SELECT * FROM tokens WHERE hash = $1")
            .bind(token_hash(secret))
            .fetch_optional(&mut *tx)
            .await?;
        let token = row.map(|row| tokens::token(&Columns(&row))).transpose()?;
        let Some(token) = token.filter(|token| token.is_valid(at_ms)) else { return Ok(None) };
        let caller = of_token(&mut tx, token).await?;
        Ok(caller.map(|caller| Caller { source_ip, ..caller }))
    }

    /// Who bears the key of a fingerprint.
    ///
    /// # Errors
    /// What the database says.
    pub async fn caller_by_key(
        &self,
        fingerprint: &str,
        source_ip: Option<IpAddr>,
    ) -> Result<Option<Caller>, StoreError> {
        let mut tx = self.read().await?;
        let row = sqlx::query("SELECT * FROM keys WHERE fingerprint = $1")
            .bind(fingerprint)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let key = keys::key(&Columns(&row))?;
        let caller = of_key(&mut tx, key).await?;
        Ok(caller.map(|caller| Caller { source_ip, ..caller }))
    }

    /// Whose session a cookie is, and what they may do, when it is valid now.
    ///
    /// # Errors
    /// What the database says.
    pub async fn caller_by_cookie(
        &self,
        cookie: &str,
        source_ip: Option<IpAddr>,
        limits: SessionLimits,
        at_ms: i64,
    ) -> Result<Option<(Caller, SignedIn)>, StoreError> {
        let mut tx = self.read().await?;
        let found = sessions::by_hash(&mut tx, &token_hash(cookie)).await?;
        let Some(session) = found.filter(|session| at_ms < session.until_ms(limits)) else {
            return Ok(None);
        };
        let caller = of_session(&mut tx, &session).await?;
        Ok(caller.map(|caller| (Caller { source_ip, ..caller }, session)))
    }

    /// What a credential that was valid is worth now.
    ///
    /// # Errors
    /// What the database says.
    pub async fn still_valid(
        &self,
        via: Via,
        limits: SessionLimits,
        at_ms: i64,
    ) -> Result<Option<Valid>, StoreError> {
        let mut tx = self.read().await?;
        let (caller, until_ms) = match via {
            Via::Token(id) => {
                let Some(token) = tokens::by_id(&mut tx, id).await? else { return Ok(None) };
                let until = token.expires_at_ms;
                (of_token(&mut tx, token).await?, until)
            }
            Via::Key(id) => {
                let Some(key) = keys::by_id(&mut tx, id).await? else { return Ok(None) };
                (of_key(&mut tx, key).await?, None)
            }
            Via::Session(id) => {
                let Some(session) = sessions::by_id(&mut tx, id).await? else { return Ok(None) };
                let until = session.until_ms(limits);
                (of_session(&mut tx, &session).await?, Some(until))
            }
        };
        let valid = until_ms.is_none_or(|until| at_ms < until);
        Ok(caller.filter(|_| valid).map(|caller| Valid { caller, until_ms }))
    }
}
