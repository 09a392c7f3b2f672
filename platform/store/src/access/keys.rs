//! SSH public keys, known by their fingerprints.

use std::net::IpAddr;

use berth_model::{Caller, KeyId, PrincipalId, Role, TeamId};
use serde_json::{Value, json};

use super::insert_principal;
use crate::events::NewEvent;
use crate::row::Columns;
use crate::store::{id_time, random};
use crate::{By, Store, StoreError};

/// A public key that may push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Who acts with it.
    pub principal: PrincipalId,
    /// Its name, unique within the team.
    pub name: String,
    /// The team that it acts in.
    pub team: TeamId,
    /// What it may do.
    pub role: Role,
    /// `SHA256:` and the base64 of the hash, as OpenSSH shows it.
    pub fingerprint: String,
    /// The line that was added.
    pub public_key: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// A key to be added. The caller has parsed the public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Its name.
    pub name: String,
    /// The team that it acts in.
    pub team: TeamId,
    /// What it may do.
    pub role: Role,
    /// `SHA256:` and the base64 of the hash, as OpenSSH shows it.
    pub fingerprint: String,
    /// One line in the format of OpenSSH.
    pub public_key: String,
}

fn key(row: &Columns<'_>) -> Result<Key, StoreError> {
    Ok(Key {
        id: row.parsed("id")?,
        principal: row.parsed("principal_id")?,
        name: row.text("name")?,
        team: row.parsed("team_id")?,
        role: row.parsed("role")?,
        fingerprint: row.text("fingerprint")?,
        public_key: row.text("public_key")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

fn shown(key: &Key) -> Value {
    json!({
        "name": key.name,
        "team": key.team,
        "role": key.role,
        "fingerprint": key.fingerprint,
    })
}

impl Store {
    /// Who bears the key of a fingerprint.
    ///
    /// # Errors
    /// What the database says.
    pub async fn caller_by_key(
        &self,
        fingerprint: &str,
        source_ip: Option<IpAddr>,
    ) -> Result<Option<Caller>, StoreError> {
        let row = sqlx::query("SELECT * FROM keys WHERE fingerprint = $1")
            .bind(fingerprint)
            .fetch_optional(self.readers())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let key = key(&Columns(&row))?;
        Ok(Some(Caller {
            principal: key.principal,
            name: key.name,
            team: key.team,
            role: key.role,
            source_ip,
        }))
    }

    /// Adds a key.
    ///
    /// # Errors
    /// `Exists` when the key, or one of its name in the team, is there; what the database says.
    pub async fn add_key(&self, new: &NewKey, by: &By) -> Result<Key, StoreError> {
        let key = Key {
            id: KeyId::new(id_time(by.at_ms), random()?),
            principal: PrincipalId::new(id_time(by.at_ms), random()?),
            name: new.name.clone(),
            team: new.team,
            role: new.role,
            fingerprint: new.fingerprint.clone(),
            public_key: new.public_key.clone(),
            created_at_ms: by.at_ms,
        };
        let mut write = self.write(by).await?;
        let taken = sqlx::query("SELECT 1 FROM keys WHERE fingerprint = $1")
            .bind(&key.fingerprint)
            .fetch_optional(write.db())
            .await?;
        if taken.is_some() {
            return Err(StoreError::Exists { what: "key", name: key.fingerprint });
        }
        insert_principal(write.db(), key.principal, "key", &key.name, by.at_ms).await?;
        sqlx::query(
            "INSERT INTO keys
               (id, principal_id, team_id, name, role, fingerprint, public_key, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(key.id.to_string())
        .bind(key.principal.to_string())
        .bind(key.team.to_string())
        .bind(&key.name)
        .bind(key.role.as_str())
        .bind(&key.fingerprint)
        .bind(&key.public_key)
        .bind(key.created_at_ms)
        .execute(write.db())
        .await
        .map_err(|error| StoreError::from(error).exists("key", &key.name))?;
        let event = NewEvent {
            kind: "key.added",
            subject: key.id.to_string(),
            app: None,
            team: Some(key.team),
            before: Value::Null,
            after: shown(&key),
        };
        write.finish(event).await?;
        Ok(key)
    }

    /// At most `limit` keys before an id, newest first; of one team, or of all.
    ///
    /// # Errors
    /// What the database says.
    pub async fn keys(
        &self,
        team: Option<TeamId>,
        before: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<Key>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM keys
             WHERE ($1 IS NULL OR team_id = $1) AND ($2 IS NULL OR id < $2)
             ORDER BY id DESC LIMIT $3",
        )
        .bind(team.map(|team| team.to_string()))
        .bind(before.map(|id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| key(&Columns(row))).collect()
    }

    /// A key by its id.
    ///
    /// # Errors
    /// What the database says.
    pub async fn key(&self, id: KeyId) -> Result<Option<Key>, StoreError> {
        let row = sqlx::query("SELECT * FROM keys WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| key(&Columns(&row))).transpose()
    }

    /// A key by its name within a team.
    ///
    /// # Errors
    /// What the database says.
    pub async fn key_by_name(&self, team: TeamId, name: &str) -> Result<Option<Key>, StoreError> {
        let row = sqlx::query("SELECT * FROM keys WHERE team_id = $1 AND name = $2")
            .bind(team.to_string())
            .bind(name)
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| key(&Columns(&row))).transpose()
    }

    /// Removes a key. One that is not there is fine.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove_key(&self, id: KeyId, by: &By) -> Result<(), StoreError> {
        let Some(key) = self.key(id).await? else { return Ok(()) };
        let mut write = self.write(by).await?;
        sqlx::query("DELETE FROM keys WHERE id = $1")
            .bind(id.to_string())
            .execute(write.db())
            .await?;
        let event = NewEvent {
            kind: "key.removed",
            subject: id.to_string(),
            app: None,
            team: Some(key.team),
            before: shown(&key),
            after: Value::Null,
        };
        write.finish(event).await.map(drop)
    }
}
