//! What extensions wrote: the last lines of each.

use berth_model::extension::ExtensionId;

use crate::row::Columns;
use crate::{Store, StoreError};

/// Lines that are kept of each extension.
const LINES_MAX: i64 = 2_000;

/// A line of an extension's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionLine {
    /// Its position, from 1.
    pub seq: i64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// `info`, `warning`, `error` or `debug`.
    pub level: String,
    /// The text.
    pub line: String,
}

impl Store {
    /// Appends lines (time, level, text), and forgets the oldest of more than 2,000. An extension
    /// that is not there has no log.
    ///
    /// # Errors
    /// What the database says.
    pub async fn add_extension_lines(
        &self,
        id: &ExtensionId,
        lines: &[(i64, &'static str, String)],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (at_ms, level, line) in lines {
            sqlx::query(
                "INSERT INTO extension_log (extension_id, seq, at_ms, level, line)
                 SELECT id, (SELECT coalesce(max(seq), 0) + 1 FROM extension_log
                             WHERE extension_id = $1), $2, $3, $4
                 FROM extensions WHERE id = $1",
            )
            .bind(id.as_str())
            .bind(at_ms)
            .bind(*level)
            .bind(line)
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query(
            "DELETE FROM extension_log WHERE extension_id = $1 AND seq <=
               (SELECT max(seq) FROM extension_log WHERE extension_id = $1) - $2",
        )
        .bind(id.as_str())
        .bind(LINES_MAX)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// At most `limit` lines after position `after`, oldest first; without a position, the last
    /// ones.
    ///
    /// # Errors
    /// What the database says.
    pub async fn extension_lines(
        &self,
        id: &ExtensionId,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ExtensionLine>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM (SELECT * FROM extension_log WHERE extension_id = $1
               AND ($2 IS NULL OR seq > $2)
               ORDER BY CASE WHEN $2 IS NULL THEN -seq ELSE seq END LIMIT $3) ORDER BY seq",
        )
        .bind(id.as_str())
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        let line = |row| {
            let row = Columns(row);
            Ok(ExtensionLine {
                seq: row.int("seq")?,
                at_ms: row.int("at_ms")?,
                level: row.text("level")?,
                line: row.text("line")?,
            })
        };
        rows.iter().map(line).collect()
    }
}
