//! SSH public keys, known by their fingerprints.

use berth_model::principal::Visible;
use berth_model::{KeyId, PrincipalId, Role, TeamId, UserId};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use super::{Owner, principal_of};
use crate::events::NewEvent;
use crate::row::{Columns, ids};
use crate::store::{id_time, random};
use crate::{By, Store, StoreError};

/// A public key that may push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Who acts with it.
    pub principal: PrincipalId,
    /// Its name, unique within the team, or among those of the user.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
    /// What it may do, at most.
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
    /// Whose it is.
    pub owner: Owner,
    /// What it may do, at most.
    pub role: Role,
    /// `SHA256:` and the base64 of the hash, as OpenSSH shows it.
    pub fingerprint: String,
    /// One line in the format of OpenSSH.
    pub public_key: String,
}

pub(super) fn key(row: &Columns<'_>) -> Result<Key, StoreError> {
    Ok(Key {
        id: row.parsed("id")?,
        principal: row.parsed("principal_id")?,
        name: row.text("name")?,
        owner: Owner::of(row)?,
        role: row.parsed("role")?,
        fingerprint: row.text("fingerprint")?,
        public_key: row.text("public_key")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

pub(super) async fn by_id(db: &mut SqliteConnection, id: KeyId) -> Result<Option<Key>, StoreError> {
    let row = sqlx::query("SELECT * FROM keys WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| key(&Columns(&row))).transpose()
}

fn shown(key: &Key) -> Value {
    json!({
        "name": key.name,
        "team": key.owner.team(),
        "user": key.owner.user(),
        "role": key.role,
        "fingerprint": key.fingerprint,
    })
}

impl Store {
    /// Adds a key.
    ///
    /// # Errors
    /// `Exists` when the key, or one of its name in the team, is there; what the database says.
    pub async fn add_key(&self, new: &NewKey, by: &By) -> Result<Key, StoreError> {
        let mut key = Key {
            id: KeyId::new(id_time(by.at_ms), random()?),
            principal: PrincipalId::new(id_time(by.at_ms), random()?),
            name: new.name.clone(),
            owner: new.owner,
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
        let (own, at_ms) = (key.principal, by.at_ms);
        key.principal = principal_of(write.db(), key.owner, own, "key", &key.name, at_ms).await?;
        sqlx::query(
            "INSERT INTO keys
               (id, principal_id, team_id, user_id, name, role, fingerprint, public_key,
                created_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(key.id.to_string())
        .bind(key.principal.to_string())
        .bind(key.owner.team().map(|team| team.to_string()))
        .bind(key.owner.user().map(|user| user.to_string()))
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
            team: key.owner.team(),
            before: Value::Null,
            after: shown(&key),
        };
        write.finish(event).await?;
        Ok(key)
    }

    /// At most `limit` keys of teams before an id, newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn keys(
        &self,
        visible: impl Into<Visible>,
        before: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<Key>, StoreError> {
        let visible = visible.into();
        let rows = sqlx::query(
            "SELECT * FROM keys
             WHERE team_id IS NOT NULL AND ($2 IS NULL OR id < $2)
               AND ($1 IS NULL OR team_id IN (SELECT value FROM json_each($1)))
             ORDER BY id DESC LIMIT $3",
        )
        .bind(visible.teams().map(ids))
        .bind(before.map(|id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| key(&Columns(row))).collect()
    }

    /// The same of a user.
    ///
    /// # Errors
    /// What the database says.
    pub async fn keys_of(
        &self,
        user: UserId,
        before: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<Key>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM keys WHERE user_id = $1 AND ($2 IS NULL OR id < $2)
             ORDER BY id DESC LIMIT $3",
        )
        .bind(user.to_string())
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
        let mut tx = self.read().await?;
        by_id(&mut tx, id).await
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
            team: key.owner.team(),
            before: shown(&key),
            after: Value::Null,
        };
        write.finish(event).await.map(drop)
    }
}
