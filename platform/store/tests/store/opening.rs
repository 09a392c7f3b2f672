use berth_store::{Store, StoreError};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::{Fixture, by};

#[tokio::test]
async fn what_was_written_is_there_after_a_crash() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let again = store.again().await;
    assert_eq!(again.app(app.id).await.unwrap(), Some(app));
    assert_eq!(again.newest_event().await.unwrap(), store.newest_event().await.unwrap());
}

#[tokio::test]
async fn another_key_is_refused_before_anything_is_done() {
    let store = Fixture::new().await;
    store.close().await;
    let error = Store::open(&store.path(), &[8; 32], "localhost").await.unwrap_err();
    assert!(matches!(error, StoreError::WrongKey { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("berth.sqlite");
    std::fs::write(
        &path,
        "not a database, but longer than a header needs to be to be looked at ".repeat(20),
    )
    .unwrap();
    let error = Store::open(&path, &crate::KEY, "localhost").await.unwrap_err();
    assert!(error.to_string().contains("berth.sqlite"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let store = Fixture::new().await;
    store.close().await;
    let mut other = SqliteConnectOptions::new().filename(store.path()).connect().await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', 1, x'00', 0)",
    )
    .execute(&mut other)
    .await
    .unwrap();
    let error = Store::open(&store.path(), &crate::KEY, "localhost").await.unwrap_err();
    assert!(matches!(error, StoreError::Migrate { .. }), "{error}");
}

#[tokio::test]
async fn changes_at_the_same_time_all_happen() {
    let store = Fixture::new().await;
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let store = store.store.clone();
            tokio::spawn(async move {
                let change = berth_model::plan::Change::Create {
                    name: format!("app-{n}").parse().unwrap(),
                    team: store.default_team(),
                };
                store.change(None, &change, None, &by()).await.unwrap().app.block
            })
        })
        .collect();
    let mut blocks = Vec::new();
    for task in tasks {
        blocks.push(task.await.unwrap());
    }
    blocks.sort_unstable();
    assert_eq!(blocks, (0..20).collect::<Vec<u16>>());
}
