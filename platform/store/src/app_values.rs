//! Values that Wasm apps keep, each app in a space of its own with a quota. They outlive releases
//! and go with the app.

use berth_model::AppId;

use crate::values::{KvError, Space};
use crate::{Store, StoreError};

impl Store {
    /// The value of a key.
    ///
    /// # Errors
    /// What the database says.
    pub async fn app_value(
        &self,
        app: AppId,
        key: &str,
        now_ms: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        space(&app.to_string()).value(self, key, now_ms).await
    }

    /// Keys that begin with a prefix, in the order of their bytes.
    ///
    /// # Errors
    /// What the database says.
    pub async fn app_keys(
        &self,
        app: AppId,
        prefix: &str,
        count_max: u32,
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        space(&app.to_string()).keys(self, prefix, count_max, now_ms).await
    }

    /// Sets a key within the quota. With `absent_only`, only when it is not there; gives whether
    /// it was set.
    ///
    /// # Errors
    /// `Quota`, and what the database says.
    pub async fn put_app_value(
        &self,
        app: AppId,
        pair: (&str, &[u8]),
        expires_at_ms: Option<i64>,
        absent_only: bool,
        (quota_bytes, now_ms): (u64, i64),
    ) -> Result<bool, KvError> {
        let within = (quota_bytes, now_ms);
        space(&app.to_string()).put(self, pair, expires_at_ms, absent_only, within).await
    }

    /// Removes a key; false when it was not there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remove_app_value(
        &self,
        app: AppId,
        key: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        space(&app.to_string()).remove(self, key, now_ms).await
    }
}

fn space(owner: &str) -> Space<'_> {
    Space { table: "app_values", column: "app_id", owner }
}
