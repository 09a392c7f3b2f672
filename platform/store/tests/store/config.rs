use berth_model::plan::{Change, Secret};
use berth_store::StoreError;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::{Fixture, by, configure};

/// Every byte that the database has on the disk.
fn on_disk(store: &Fixture) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(store.folder.path()).unwrap() {
        bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn values_are_on_the_disk_only_encrypted() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.set(&app, &[("PASSWORD", "correct horse battery staple")]).await;
    for _ in 0..2 {
        let bytes = on_disk(&store);
        assert!(holds(&bytes, "PASSWORD"), "the name is there in clear");
        assert!(!holds(&bytes, "correct horse"));
        store.close().await;
    }
    let (version, config) = store.again().await.config(app.id).await.unwrap();
    assert_eq!(version, 1);
    assert_eq!(config[&"PASSWORD".parse().unwrap()].reveal(), "correct horse battery staple");
}

#[tokio::test]
async fn each_change_makes_a_version_and_old_ones_stay() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.set(&app, &[("A", "1"), ("B", "2")]).await;
    let unset = Change::Configure {
        set: [("C".parse().unwrap(), Secret::new("3"))].into(),
        unset: ["B".parse().unwrap()].into(),
        release: true,
    };
    store.change(Some(app.id), &unset, None, &by()).await.unwrap();
    let names = |config: berth_model::plan::Config| {
        config.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(store.config_of(app.id, 1).await.unwrap()), ["A", "B"]);
    assert_eq!(names(store.config_of(app.id, 2).await.unwrap()), ["A", "C"]);
    let versions = store.config_versions(app.id, None, 10).await.unwrap();
    assert_eq!(versions.iter().map(|v| v.version).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(versions[0].names.len(), 2);
    assert_eq!(versions[0].actor, "system");
}

#[tokio::test]
async fn a_version_cannot_be_changed_and_a_value_cannot_be_moved() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.set(&app, &[("A", "one"), ("B", "two")]).await;
    store.close().await;
    let mut other = SqliteConnectOptions::new().filename(store.path()).connect().await.unwrap();
    let error = sqlx::query("UPDATE config_values SET sealed = x'00'").execute(&mut other).await;
    assert!(error.unwrap_err().to_string().contains("immutable"));
    // Whoever has the file may still do it by force; the value does not open in its new place.
    for sql in [
        "DROP TRIGGER config_values_are_immutable",
        "UPDATE config_values SET sealed = (SELECT sealed FROM config_values WHERE name = 'A') WHERE name = 'B'",
    ] {
        sqlx::query(sql).execute(&mut other).await.unwrap();
    }
    let error = store.again().await.config(app.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Unsealed(_)), "{error}");
    assert!(!error.to_string().contains("one"));
}

#[tokio::test]
async fn nothing_of_a_change_is_there_when_a_part_of_it_fails() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    store.serving(&app, 1).await;
    let plan = store.plan(Some(app.id), &configure(&[("A", "1")])).await.unwrap();
    let before = store.newest_event().await.unwrap();
    // Somebody else changes the app between the plan and its commit.
    store.set(&app, &[("B", "2")]).await;
    let generation = plan.generation;
    let error = store.commit(plan, generation, &by()).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    let (version, config) = store.config(app.id).await.unwrap();
    assert_eq!((version, config.len()), (1, 1));
    assert_eq!(store.newest_event().await.unwrap(), before + 1);
    assert_eq!(store.config_versions(app.id, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn odd_values_come_back_byte_for_byte() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let odd = "line one\nline two\r\n\t$(id) `x` \"q\" 'q' \\ ä 🦀 =";
    store.set(&app, &[("ODD", odd), ("EMPTY", "")]).await;
    let (_, config) = store.config(app.id).await.unwrap();
    assert_eq!(config[&"ODD".parse().unwrap()].reveal(), odd);
    assert_eq!(config[&"EMPTY".parse().unwrap()].reveal(), "");
}

/// Polls a future so many times and then lets it go, as when a client's connection ends.
struct Abandoned<F>(F, usize);

impl<F: Future + Unpin> Future for Abandoned<F> {
    type Output = Option<F::Output>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        if self.1 == 0 {
            return std::task::Poll::Ready(None);
        }
        self.1 -= 1;
        std::pin::Pin::new(&mut self.0).poll(context).map(Some)
    }
}

#[tokio::test]
async fn a_change_that_is_let_go_anywhere_is_there_whole_or_not_at_all() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let (mut let_go, mut done) = (0, 0);
    for turn in 0..120 {
        let (polls, value) = (turn % 24, turn.to_string());
        let change = configure(&["A", "B", "C", "D"].map(|name| (name, value.as_str())));
        let by = by();
        let changing = Box::pin(store.change(Some(app.id), &change, None, &by));
        match Abandoned(changing, polls).await {
            None => let_go += 1,
            Some(result) => {
                result.unwrap();
                done += 1;
            }
        }
        let (version, config) = store.config(app.id).await.unwrap();
        assert!(version >= done);
        let values: std::collections::BTreeSet<_> = config.values().map(Secret::reveal).collect();
        assert!(values.len() <= 1 && (config.is_empty() || config.len() == 4), "{values:?}");
    }
    assert!(let_go > 5 && done > 5, "{let_go} let go, {done} done");
    let versions = store.again().await.config_versions(app.id, None, 200).await.unwrap();
    assert!(versions.iter().all(|version| version.names.len() == 4));
    let filter = berth_store::EventFilter {
        app: Some(app.name.clone()),
        ..berth_store::EventFilter::all(berth_store::Visible::All)
    };
    let events = store.events(&filter, berth_store::Order::OldestAfter(0), 200).await.unwrap();
    assert_eq!(events.len(), versions.len() + 1, "one event for each version, and the app's");
}
