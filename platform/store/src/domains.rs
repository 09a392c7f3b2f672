//! Domains that were added to apps. Changes go through plans.

use berth_model::{AppId, Domain};

use crate::row::Columns;
use crate::{Store, StoreError};

/// A domain of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRow {
    /// The host name.
    pub name: Domain,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

impl Store {
    /// The domains of an app that were added to it, by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn domains(&self, app: AppId) -> Result<Vec<DomainRow>, StoreError> {
        let rows =
            sqlx::query("SELECT name, created_at_ms FROM domains WHERE app_id = $1 ORDER BY name")
                .bind(app.to_string())
                .fetch_all(self.readers())
                .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(DomainRow {
                    name: row.parsed("name")?,
                    created_at_ms: row.int("created_at_ms")?,
                })
            })
            .collect()
    }
}
