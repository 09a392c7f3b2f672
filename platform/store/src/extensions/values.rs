//! Values that extensions keep, each in a space of its own with a quota.

use berth_model::extension::ExtensionId;

use crate::values::{KvError, Space};
use crate::{Store, StoreError};

impl Store {
    /// The value of a key.
    ///
    /// # Errors
    /// What the database says.
    pub async fn extension_value(
        &self,
        id: &ExtensionId,
        key: &str,
        now_ms: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        space(id.as_str()).value(self, key, now_ms).await
    }

    /// Keys that begin with a prefix, in the order of their bytes.
    ///
    /// # Errors
    /// What the database says.
    pub async fn extension_keys(
        &self,
        id: &ExtensionId,
        prefix: &str,
        count_max: u32,
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        space(id.as_str()).keys(self, prefix, count_max, now_ms).await
    }

    /// Sets a key within the quota. With `absent_only`, only when it is not there; gives whether
    /// it was set.
    ///
    /// # Errors
    /// `Quota`, and what the database says.
    pub async fn put_extension_value(
        &self,
        id: &ExtensionId,
        pair: (&str, &[u8]),
        expires_at_ms: Option<i64>,
        absent_only: bool,
        (quota_bytes, now_ms): (u64, i64),
    ) -> Result<bool, KvError> {
        let within = (quota_bytes, now_ms);
        space(id.as_str()).put(self, pair, expires_at_ms, absent_only, within).await
    }

    /// Removes a key; false when it was not there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove_extension_value(
        &self,
        id: &ExtensionId,
        key: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        space(id.as_str()).remove(self, key, now_ms).await
    }
}

fn space(owner: &str) -> Space<'_> {
    Space { table: "extension_values", column: "extension_id", owner }
}
