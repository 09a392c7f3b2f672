//! Values of Wasm apps: the worker asks, the store has them.

use std::time::Duration;

use berth_extensions::WorkerClient;
use berth_extensions::app::{ValueAnswer, ValueCall};
use berth_model::AppId;
use berth_store::{KvError, Store, StoreError};

use crate::clock::now_ms;

/// Between two tries to reach the worker.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers the worker that runs, whichever that is, until the task is ended.
pub(crate) async fn keep_answering(worker: WorkerClient, store: Store, quota_mib: u32) {
    let quota_bytes = u64::from(quota_mib) << 20;
    loop {
        let answering = worker.answer_values(|app, call| {
            let store = store.clone();
            async move { answer(&store, app, call, quota_bytes).await }
        });
        if let Err(error) = answering.await {
            tracing::debug!(%error, "the Wasm worker cannot be answered");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn answer(store: &Store, app: AppId, call: ValueCall, quota_bytes: u64) -> ValueAnswer {
    match answered(store, app, call, quota_bytes).await {
        Ok(answer) => answer,
        Err(KvError::Quota { .. }) => ValueAnswer::Failed {
            code: "quota".to_owned(),
            message: format!("the values of an app have at most {quota_bytes} bytes; remove some"),
            retry: false,
        },
        Err(KvError::Store(error)) => {
            tracing::error!(%app, error = &error as &dyn std::error::Error, "values of a Wasm app");
            ValueAnswer::unavailable()
        }
    }
}

async fn answered(
    store: &Store,
    app: AppId,
    call: ValueCall,
    quota_bytes: u64,
) -> Result<ValueAnswer, KvError> {
    let at_ms = now_ms();
    let kept = |error: StoreError| KvError::Store(error);
    Ok(match call {
        ValueCall::Get { key } => {
            ValueAnswer::Value { value: store.app_value(app, &key, at_ms).await.map_err(kept)? }
        }
        ValueCall::Put { key, value, ttl_ms, absent_only } => {
            let ttl_ms = ttl_ms.map(|ttl_ms| i64::try_from(ttl_ms).unwrap_or(i64::MAX));
            let expires = ttl_ms.map(|ttl_ms| at_ms.saturating_add(ttl_ms));
            let put = store.put_app_value(
                app,
                (&key, &value),
                expires,
                absent_only,
                (quota_bytes, at_ms),
            );
            ValueAnswer::Done { done: put.await? }
        }
        ValueCall::Remove { key } => ValueAnswer::Done {
            done: store.remove_app_value(app, &key, at_ms).await.map_err(kept)?,
        },
        ValueCall::Keys { prefix, count_max } => ValueAnswer::Keys {
            keys: store.app_keys(app, &prefix, count_max, at_ms).await.map_err(kept)?,
        },
    })
}
