//! Secrets of extensions, sealed.

use berth_model::extension::ExtensionId;
use serde_json::{Value, json};

use crate::events::NewEvent;
use crate::row::Columns;
use crate::seal::Place;
use crate::{By, Store, StoreError};

fn place<'a>(id: &'a ExtensionId, name: &'a str) -> [&'a str; 3] {
    ["extension_secrets", id.as_str(), name]
}

impl Store {
    /// Names of the secrets that are set.
    ///
    /// # Errors
    /// What the database says.
    pub async fn extension_secret_names(
        &self,
        id: &ExtensionId,
    ) -> Result<Vec<String>, StoreError> {
        let rows =
            sqlx::query("SELECT name FROM extension_secrets WHERE extension_id = $1 ORDER BY name")
                .bind(id.as_str())
                .fetch_all(self.readers())
                .await?;
        rows.iter().map(|row| Columns(row).text("name")).collect()
    }

    /// The value of a secret.
    ///
    /// # Errors
    /// What the database says; a value that was changed outside of Berth.
    pub async fn extension_secret(
        &self,
        id: &ExtensionId,
        name: &str,
    ) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(
            "SELECT key_id, sealed FROM extension_secrets WHERE extension_id = $1 AND name = $2",
        )
        .bind(id.as_str())
        .bind(name)
        .fetch_optional(self.readers())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let row = Columns(&row);
        let sealed = row.bytes("sealed")?;
        self.sealer().open(&Place(&place(id, name)), &row.text("key_id")?, &sealed).map(Some)
    }

    /// Sets a secret, or removes it where there is no value. The event names it alone.
    ///
    /// # Errors
    /// What the database says.
    pub async fn set_extension_secret(
        &self,
        id: &ExtensionId,
        name: &str,
        value: Option<&str>,
        by: &By,
    ) -> Result<(), StoreError> {
        let mut write = self.write(by).await?;
        match value {
            Some(value) => {
                sqlx::query(
                    "INSERT INTO extension_secrets
                       (extension_id, name, key_id, sealed, changed_at_ms)
                     VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (extension_id, name) DO UPDATE SET key_id = excluded.key_id,
                       sealed = excluded.sealed, changed_at_ms = excluded.changed_at_ms",
                )
                .bind(id.as_str())
                .bind(name)
                .bind(self.sealer().key_id())
                .bind(self.sealer().seal(&Place(&place(id, name)), value)?)
                .bind(by.at_ms)
                .execute(write.db())
                .await?;
            }
            None => {
                sqlx::query("DELETE FROM extension_secrets WHERE extension_id = $1 AND name = $2")
                    .bind(id.as_str())
                    .bind(name)
                    .execute(write.db())
                    .await?;
            }
        }
        let event = NewEvent {
            kind: "extension.secret",
            subject: id.to_string(),
            app: None,
            team: None,
            before: Value::Null,
            after: json!({ "secret": name, "set": value.is_some() }),
        };
        write.finish(event).await.map(|_| ())
    }
}
