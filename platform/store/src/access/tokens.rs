//! Access tokens, of which only hashes are kept.

use std::net::IpAddr;

use berth_model::{Caller, PrincipalId, Role, TeamId, TokenId};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;

use super::insert_principal;
use crate::events::NewEvent;
use crate::row::Columns;
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
    /// Its name, unique within the team.
    pub name: String,
    /// The team that it acts in.
    pub team: TeamId,
    /// What it may do.
    pub role: Role,
    /// Unix milliseconds; invalid from then on.
    pub expires_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its name, unique within the team.
    pub name: String,
    /// The team that it acts in.
    pub team: TeamId,
    /// What it may do.
    pub role: Role,
    /// Unix milliseconds; invalid from then on.
    pub expires_at_ms: Option<i64>,
}

/// What is stored of a token: SHA-256 as hex digits. Tokens are random, so no salt is needed.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

fn token(row: &Columns<'_>) -> Result<Token, StoreError> {
    Ok(Token {
        id: row.parsed("id")?,
        principal: row.parsed("principal_id")?,
        name: row.text("name")?,
        team: row.parsed("team_id")?,
        role: row.parsed("role")?,
        expires_at_ms: row.opt_int("expires_at_ms")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

fn shown(token: &Token) -> Value {
    json!({
        "name": token.name,
        "team": token.team,
        "role": token.role,
        "expires_at_ms": token.expires_at_ms,
    })
}

async fn insert(db: &mut SqliteConnection, token: &Token, hash: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tokens
           (id, principal_id, team_id, name, role, hash, expires_at_ms, created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(token.id.to_string())
    .bind(token.principal.to_string())
    .bind(token.team.to_string())
    .bind(&token.name)
    .bind(token.role.as_str())
    .bind(hash)
    .bind(token.expires_at_ms)
    .bind(token.created_at_ms)
    .execute(db)
    .await
    .map_err(|error| StoreError::from(error).exists("token", &token.name))?;
    Ok(())
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
        let row = sqlx::query(
            "SELECT * FROM tokens WHERE hash = $1 AND (expires_at_ms IS NULL OR expires_at_ms > $2)",
        )
        .bind(token_hash(secret))
        .bind(at_ms)
        .fetch_optional(self.readers())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let token = token(&Columns(&row))?;
        Ok(Some(Caller {
            principal: token.principal,
            name: token.name,
            team: token.team,
            role: token.role,
            source_ip,
        }))
    }

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
        let token = Token {
            id: TokenId::new(id_time(by.at_ms), random()?),
            principal: PrincipalId::new(id_time(by.at_ms), random()?),
            name: new.name.clone(),
            team: new.team,
            role: new.role,
            expires_at_ms: new.expires_at_ms,
            created_at_ms: by.at_ms,
        };
        let mut write = self.write(by).await?;
        insert_principal(write.db(), token.principal, "token", &token.name, by.at_ms).await?;
        insert(write.db(), &token, &token_hash(&secret)).await?;
        let event = NewEvent {
            kind: "token.created",
            subject: token.id.to_string(),
            app: None,
            team: Some(token.team),
            before: Value::Null,
            after: shown(&token),
        };
        write.finish(event).await?;
        Ok((token, secret))
    }

    /// At most `limit` tokens before an id, newest first; of one team, or of all.
    ///
    /// # Errors
    /// What the database says.
    pub async fn tokens(
        &self,
        team: Option<TeamId>,
        before: Option<TokenId>,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM tokens
             WHERE ($1 IS NULL OR team_id = $1) AND ($2 IS NULL OR id < $2)
             ORDER BY id DESC LIMIT $3",
        )
        .bind(team.map(|team| team.to_string()))
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
        let row = sqlx::query("SELECT * FROM tokens WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| token(&Columns(&row))).transpose()
    }

    /// The token that a principal acts with.
    ///
    /// # Errors
    /// What the database says.
    pub async fn token_of(&self, principal: PrincipalId) -> Result<Option<Token>, StoreError> {
        let row = sqlx::query("SELECT * FROM tokens WHERE principal_id = $1")
            .bind(principal.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| token(&Columns(&row))).transpose()
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
            team: Some(token.team),
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
            team,
            role: Role::Admin,
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
