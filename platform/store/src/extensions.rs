//! Installed extensions: what runs, what it was granted and by whom.

mod deliveries;
mod log;
mod secrets;
mod values;

use berth_model::extension::{ExtensionId, ExtensionManifest, Grant};
use berth_model::{App, AppId, Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use crate::events::NewEvent;
use crate::row::{Columns, to_json};
use crate::{By, Store, StoreError};

pub use deliveries::Delivery;
pub use log::ExtensionLine;

/// Whether an extension is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtensionState {
    /// It is.
    Active,
    /// An operator switched it off.
    Disabled,
    /// It failed too often.
    Quarantined,
    /// Nobody granted it anything yet.
    Waiting,
}

impl ExtensionState {
    /// The text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Quarantined => "quarantined",
            Self::Waiting => "waiting",
        }
    }
}

impl std::str::FromStr for ExtensionState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Active, Self::Disabled, Self::Quarantined, Self::Waiting]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("'{text}' is not a state of an extension"))
    }
}

/// A version of an extension: its component and the manifest inside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtensionVersion {
    /// The component, which is a blob.
    pub component: Digest,
    /// Its manifest.
    pub manifest: ExtensionManifest,
}

/// An installed extension.
#[derive(Debug, Clone, PartialEq)]
pub struct Extension {
    /// Its name.
    pub id: ExtensionId,
    /// What runs.
    pub version: ExtensionVersion,
    /// What it was granted.
    pub grant: Grant,
    /// Its configuration, an object without the defaults of the schema.
    pub config: Value,
    /// The apps that it is for; nothing means all of them.
    pub apps: Option<Vec<AppId>>,
    /// Whether it is called.
    pub state: ExtensionState,
    /// A version that asks for more than was granted.
    pub waiting: Option<ExtensionVersion>,
    /// The newest event that it was asked about, a hook.
    pub seen: i64,
    /// Unix milliseconds.
    pub installed_at_ms: i64,
    /// Unix milliseconds.
    pub changed_at_ms: i64,
}

impl Extension {
    /// Whether it is for an app.
    pub fn is_for(&self, app: AppId) -> bool {
        self.apps.as_ref().is_none_or(|apps| apps.contains(&app))
    }

    /// What events show of it: no configuration, which may name what nobody else should know.
    fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "version": self.version.manifest.version,
            "component": self.version.component,
            "granted": self.grant.granted,
            "apps": self.apps,
            "state": self.state,
            "waiting": self.waiting.as_ref().map(|one| &one.component),
        })
    }
}

/// One row of what was granted.
#[derive(Debug, Clone, PartialEq)]
pub struct GrantRow {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// To which component.
    pub component: Digest,
    /// What.
    pub grant: Grant,
}

fn extension(row: &Columns<'_>) -> Result<Extension, StoreError> {
    Ok(Extension {
        id: row.parsed("id")?,
        version: ExtensionVersion {
            component: row.parsed("component")?,
            manifest: row.json("manifest")?,
        },
        grant: row.json("given")?,
        config: row.json("config")?,
        apps: row.opt_json("apps")?,
        state: row.parsed("state")?,
        waiting: row.opt_json("waiting")?,
        seen: row.int("seen")?,
        installed_at_ms: row.int("installed_at_ms")?,
        changed_at_ms: row.int("changed_at_ms")?,
    })
}

async fn find(
    db: &mut SqliteConnection,
    id: &ExtensionId,
) -> Result<Option<Extension>, StoreError> {
    let row = sqlx::query("SELECT * FROM extensions WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(db)
        .await?;
    row.map(|row| extension(&Columns(&row))).transpose()
}

impl Store {
    /// Installed extensions by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn extensions(&self) -> Result<Vec<Extension>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM extensions ORDER BY id").fetch_all(self.readers()).await?;
        rows.iter().map(|row| extension(&Columns(row))).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// What the database says.
    pub async fn extension(&self, id: &ExtensionId) -> Result<Option<Extension>, StoreError> {
        let mut tx = self.read().await?;
        find(&mut tx, id).await
    }

    /// Installs an extension, or writes what changed of it. A grant that is another one than before
    /// leaves a row with who gave it. `seen` is not changed of one that is there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn put_extension(&self, new: &Extension, by: &By) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        let before = find(write.db(), &new.id).await?;
        sqlx::query(
            "INSERT INTO extensions (id, kind, component, manifest, given, config, apps, state,
               waiting, seen, installed_at_ms, changed_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, component = excluded.component,
               manifest = excluded.manifest, given = excluded.given, config = excluded.config,
               apps = excluded.apps, state = excluded.state, waiting = excluded.waiting,
               changed_at_ms = excluded.changed_at_ms",
        )
        .bind(new.id.as_str())
        .bind(new.version.manifest.kind.as_str())
        .bind(new.version.component.to_string())
        .bind(to_json("manifest", &new.version.manifest)?)
        .bind(to_json("given", &new.grant)?)
        .bind(new.config.to_string())
        .bind(new.apps.as_ref().map(|apps| to_json("apps", apps)).transpose()?)
        .bind(new.state.as_str())
        .bind(new.waiting.as_ref().map(|one| to_json("waiting", one)).transpose()?)
        .bind(new.seen)
        .bind(new.installed_at_ms)
        .bind(new.changed_at_ms)
        .execute(write.db())
        .await?;
        if before.as_ref().is_none_or(|old| old.grant != new.grant) {
            sqlx::query(
                "INSERT INTO extension_grants (extension_id, at_ms, actor, component, given)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(new.id.as_str())
            .bind(by.at_ms)
            .bind(&by.name)
            .bind(new.version.component.to_string())
            .bind(to_json("given", &new.grant)?)
            .execute(write.db())
            .await?;
        }
        let event = NewEvent {
            kind: if before.is_none() { "extension.installed" } else { "extension.changed" },
            subject: new.id.to_string(),
            app: None,
            team: None,
            before: before.map_or(Value::Null, |old| old.shown()),
            after: new.shown(),
        };
        write.finish(event).await.map(|_| ())
    }

    /// Removes an extension with everything that it kept; false when it was not there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove_extension(&self, id: &ExtensionId, by: &By) -> Result<bool, StoreError> {
        let mut write = self.write(by).await?;
        let Some(before) = find(write.db(), id).await? else {
            return Ok(false);
        };
        sqlx::query("DELETE FROM extensions WHERE id = $1")
            .bind(id.as_str())
            .execute(write.db())
            .await?;
        let event = NewEvent {
            kind: "extension.removed",
            subject: id.to_string(),
            app: None,
            team: None,
            before: before.shown(),
            after: Value::Null,
        };
        write.finish(event).await?;
        Ok(true)
    }

    /// What was granted to an extension, the newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn extension_grants(&self, id: &ExtensionId) -> Result<Vec<GrantRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM extension_grants WHERE extension_id = $1 ORDER BY rowid DESC LIMIT 100",
        )
        .bind(id.as_str())
        .fetch_all(self.readers())
        .await?;
        let grant = |row| {
            let row = Columns(row);
            Ok(GrantRow {
                at_ms: row.int("at_ms")?,
                actor: row.text("actor")?,
                component: row.parsed("component")?,
                grant: row.json("given")?,
            })
        };
        rows.iter().map(grant).collect()
    }

    /// Writes an event of the platform about an extension, or one of the extension's own.
    ///
    /// # Errors
    /// What the database says.
    pub async fn extension_event(
        &self,
        kind: &str,
        id: &ExtensionId,
        after: Value,
        by: &By,
    ) -> Result<(), StoreError> {
        let event = NewEvent {
            kind,
            subject: id.to_string(),
            app: None,
            team: None,
            before: Value::Null,
            after,
        };
        self.write(by).await?.finish(event).await.map(|_| ())
    }

    /// Writes that a policy said no and was passed over, for those who see the app.
    ///
    /// # Errors
    /// What the database says.
    pub async fn policy_overridden(
        &self,
        id: &ExtensionId,
        app: Option<&App>,
        after: Value,
        by: &By,
    ) -> Result<(), StoreError> {
        let event = NewEvent {
            kind: "policy.overridden",
            subject: id.to_string(),
            app: app.map(|app| app.id),
            team: app.map(|app| app.team),
            before: Value::Null,
            after,
        };
        self.write(by).await?.finish(event).await.map(|_| ())
    }
}
