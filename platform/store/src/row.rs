//! Reads columns; what cannot be understood is an error, never a panic.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::StoreError;

/// A row of a result.
pub(crate) struct Columns<'r>(pub(crate) &'r SqliteRow);

fn wrong(column: &str, reason: impl Display) -> StoreError {
    StoreError::Row { column: column.to_owned(), reason: reason.to_string() }
}

impl Columns<'_> {
    pub(crate) fn text(&self, column: &str) -> Result<String, StoreError> {
        self.0.try_get(column).map_err(|error| wrong(column, error))
    }

    pub(crate) fn opt_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        self.0.try_get(column).map_err(|error| wrong(column, error))
    }

    pub(crate) fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        self.0.try_get(column).map_err(|error| wrong(column, error))
    }

    pub(crate) fn int(&self, column: &str) -> Result<i64, StoreError> {
        self.0.try_get(column).map_err(|error| wrong(column, error))
    }

    pub(crate) fn real(&self, column: &str) -> Result<f64, StoreError> {
        self.0.try_get(column).map_err(|error| wrong(column, error))
    }

    pub(crate) fn opt_int(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.0.try_get(column).map_err(|error| wrong(column, error))
    }

    /// A number that fits a smaller type.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, StoreError> {
        let value = self.int(column)?;
        T::try_from(value).map_err(|_| wrong(column, format!("{value} is out of range")))
    }

    pub(crate) fn opt_number<T: TryFrom<i64>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        self.opt_int(column)?
            .map(|value| {
                T::try_from(value).map_err(|_| wrong(column, format!("{value} is out of range")))
            })
            .transpose()
    }

    /// A value with a text form: an id, a name, a digest.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|error| wrong(column, error))
    }

    pub(crate) fn opt_parsed<T: FromStr<Err: Display>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        self.opt_text(column)?
            .map(|text| text.parse().map_err(|error| wrong(column, error)))
            .transpose()
    }

    /// A structured value.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| wrong(column, error))
    }

    pub(crate) fn opt_json<T: DeserializeOwned>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        self.opt_text(column)?
            .map(|text| serde_json::from_str(&text).map_err(|error| wrong(column, error)))
            .transpose()
    }

    /// A state or another word, which serde knows by its text form.
    pub(crate) fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_value(self.text(column)?.into()).map_err(|error| wrong(column, error))
    }
}

/// A structured value as text.
pub(crate) fn to_json<T: serde::Serialize>(
    column: &'static str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| wrong(column, error))
}

/// A number as SQLite keeps it.
pub(crate) fn to_int(column: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|error| wrong(column, error))
}

/// Ids, as `json_each` reads them.
pub(crate) fn ids<T: std::fmt::Display>(ids: &std::collections::BTreeSet<T>) -> String {
    serde_json::Value::from_iter(ids.iter().map(ToString::to_string)).to_string()
}
