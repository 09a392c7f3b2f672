//! Access tokens, of which only hashes are kept.

use std::collections::BTreeSet;

use berth_model::principal::{Scope, Visible};
use berth_model::{AppId, PrincipalId, Role, TeamId, TokenId, UserId};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;

use super::{Owner, insert_principal, principal_of};
use crate::events::NewEvent;
use crate::row::{Columns, ids, to_json};
use crate::store::{id_time, random};
use crate::{By, Store, StoreError};

/// Name of the token in the file of the machine's administrator.
const ADMIN: &str = "admin";

/// An access token; its secret is known to its bearer only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Who acts with it.
    pub principal: PrincipalId,
    /// Its name, unique within the team, or among those of the user.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
    /// What it may do, at most.
    pub role: Role,
    /// What it may be used for.
    pub scope: Scope,
    /// The only apps that it is good for.
    pub apps: Option<BTreeSet<AppId>>,
    /// Unix milliseconds; invalid from then on.
    pub expires_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its name, unique within the team, or among those of the user.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
    /// What it may do, at most.
    pub role: Role,
    /// What it may be used for.
    pub scope: Scope,
    /// The only apps that it is good for.
    pub apps: Option<BTreeSet<AppId>>,
    /// Unix milliseconds; invalid from then on.
    pub expires_at_ms: Option<i64>,
}

impl Token {
    /// Whether it has not expired.
    pub fn is_valid(&self, at_ms: i64) -> bool {
        self.expires_at_ms.is_none_or(|expires| at_ms < expires)
    }
}

impl NewToken {
    /// A team's, for all that its role allows, without an end.
    pub fn of_team(name: impl Into<String>, team: TeamId, role: Role) -> Self {
        let (owner, scope) = (Owner::Team(team), Scope::All);
        Self { name: name.into(), owner, role, scope, apps: None, expires_at_ms: None }
    }
}

/// What is stored of a token: SHA-256 as hex digits. Tokens are random, so no salt is needed.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

pub(super) fn token(row: &Columns<'_>) -> Result<Token, StoreError> {
    Ok(Token {
        id: row.parsed("id")?,
        principal: row.parsed("principal_id")?,
        name: row.text("name")?,
        owner: Owner::of(row)?,
        role: row.parsed("role")?,
        scope: row.parsed("scope")?,
        apps: row.opt_json("apps")?,
        expires_at_ms: row.opt_int("expires_at_ms")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

fn shown(token: &Token) -> Value {
    json!({
        "name": token.name,
        "team": token.owner.team(),
        "user": token.owner.user(),
        "role": token.role,
        "scope": token.scope,
        "apps": token.apps,
        "expires_at_ms": token.expires_at_ms,
    })
}

pub(super) async fn by_id(
    db: &mut SqliteConnection,
    id: TokenId,
) -> Result<Option<Token>, StoreError> {
    let row = sqlx::query("SELECT * FROM tokens WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| token(&Columns(&row))).transpose()
}

async fn insert(db: &mut SqliteConnection, token: &Token, hash: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tokens
           (id, principal_id, team_id, user_id, name, role, scope, apps, hash, expires_at_ms,
            created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(token.id.to_string())
    .bind(token.principal.to_string())
    .bind(token.owner.team().map(|team| team.to_string()))
    .bind(token.owner.user().map(|user| user.to_string()))
    .bind(&token.name)
    .bind(token.role.as_str())
    .bind(token.scope.as_str())
    .bind(token.apps.as_ref().map(|apps| to_json("apps", apps)).transpose()?)
    .bind(hash)
    .bind(token.expires_at_ms)
    .bind(token.created_at_ms)
    .execute(db)
    .await
    .map_err(|error| StoreError::from(error).exists("token", &token.name))?;
    Ok(())
}

impl Store {
    /// Makes a token and gives it with its secret, which is not kept.
    ///
    /// # Errors
    /// `Exists`, and what the database says.
    pub async fn create_token(
        &self,
        new: &NewToken,
        by: &By,
    ) -> Result<(Token, String), StoreError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
        let secret = format!("berth_{}", hex::encode(bytes));
        let mut token = Token {
            id: TokenId::new(id_time(by.at_ms), random()?),
            principal: PrincipalId::new(id_time(by.at_ms), random()?),
            name: new.name.clone(),
            owner: new.owner,
            role: new.role,
            scope: new.scope,
            apps: new.apps.clone(),
            expires_at_ms: new.expires_at_ms,
            created_at_ms: by.at_ms,
        };
        let mut write = self.write(by).await?;
        let (own, at_ms) = (token.principal, by.at_ms);
        token.principal =
            principal_of(write.db(), token.owner, own, "token", &token.name, at_ms).await?;
        insert(write.db(), &token, &token_hash(&secret)).await?;
        let event = NewEvent {
            kind: "token.created",
            subject: token.id.to_string(),
            app: None,
            team: token.owner.team(),
            before: Value::Null,
            after: shown(&token),
        };
        write.finish(event).await?;
        Ok((token, secret))
    }

    /// At most `limit` tokens of teams before an id, newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn tokens(
        &self,
        visible: impl Into<Visible>,
        before: Option<TokenId>,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError> {
        let visible = visible.into();
        let rows = sqlx::query(
            "SELECT * FROM tokens
             WHERE team_id IS NOT NULL AND ($2 IS NULL OR id < $2)
               AND ($1 IS NULL OR team_id IN (SELECT value FROM json_each($1)))
             ORDER BY id DESC LIMIT $3",
        )
        .bind(visible.teams().map(ids))
        .bind(before.map(|id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| token(&Columns(row))).collect()
    }

    /// The same of a user.
    ///
    /// # Errors
    /// What the database says.
    pub async fn tokens_of(
        &self,
        user: UserId,
        before: Option<TokenId>,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM tokens WHERE user_id = $1 AND ($2 IS NULL OR id < $2)
             ORDER BY id DESC LIMIT $3",
        )
        .bind(user.to_string())
        .bind(before.map(|id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| token(&Columns(row))).collect()
    }

    /// A token.
    ///
    /// # Errors
    /// What the database says.
    pub async fn token(&self, id: TokenId) -> Result<Option<Token>, StoreError> {
        let mut tx = self.read().await?;
        by_id(&mut tx, id).await
    }

    /// Makes a token invalid. One that is not there is fine.
    ///
    /// # Errors
    /// What the database says.
    pub async fn revoke_token(&self, id: TokenId, by: &By) -> Result<(), StoreError> {
        let Some(token) = self.token(id).await? else { return Ok(()) };
        let mut write = self.write(by).await?;
        sqlx::query("DELETE FROM tokens WHERE id = $1")
            .bind(id.to_string())
            .execute(write.db())
            .await?;
        let event = NewEvent {
            kind: "token.revoked",
            subject: id.to_string(),
            app: None,
            team: token.owner.team(),
            before: shown(&token),
            after: Value::Null,
        };
        write.finish(event).await.map(drop)
    }

    /// Makes the token whose hash this is the one of the machine's administrator, and the one
    /// before it invalid. The same hash again changes nothing.
    ///
    /// # Errors
    /// What the database says.
    pub async fn adopt_admin_token(&self, hash: &str, at_ms: i64) -> Result<(), StoreError> {
        let mut write = self.write(&By::system(at_ms)).await?;
        let team = self.default_team();
        let row = sqlx::query("SELECT * FROM tokens WHERE team_id = $1 AND name = $2")
            .bind(team.to_string())
            .bind(ADMIN)
            .fetch_optional(write.db())
            .await?;
        let before = row.as_ref().map(|row| token(&Columns(row))).transpose()?;
        if let Some(row) = &row {
            if Columns(row).text("hash")? == hash {
                return Ok(());
            }
            sqlx::query("DELETE FROM tokens WHERE team_id = $1 AND name = $2")
                .bind(team.to_string())
                .bind(ADMIN)
                .execute(write.db())
                .await?;
        }
        let token = Token {
            id: TokenId::new(id_time(at_ms), random()?),
            principal: PrincipalId::new(id_time(at_ms), random()?),
            name: ADMIN.to_owned(),
            owner: Owner::Team(team),
            role: Role::Admin,
            scope: Scope::All,
            apps: None,
            expires_at_ms: None,
            created_at_ms: at_ms,
        };
        insert_principal(write.db(), token.principal, "token", ADMIN, at_ms).await?;
        insert(write.db(), &token, hash).await?;
        let event = NewEvent {
            kind: "token.created",
            subject: token.id.to_string(),
            app: None,
            // What the machine's administrator does is not the default team's business.
            team: None,
            before: before.as_ref().map_or(Value::Null, shown),
            after: shown(&token),
        };
        write.finish(event).await.map(drop)
    }
}
