use berth_model::plan::Change;
use berth_store::KvError;

use crate::{Fixture, by};

#[tokio::test]
async fn values_of_an_app_are_its_own_and_go_with_it() {
    let store = Fixture::new().await;
    let (one, two) = (store.new_app("one").await, store.new_app("two").await);
    let put = |app, key: &'static str, value: &'static [u8], expires, absent| {
        let store = &store.store;
        async move { store.put_app_value(app, (key, value), expires, absent, (100, 10)).await }
    };
    assert!(put(one.id, "a", b"1", None, false).await.unwrap());
    assert!(put(two.id, "a", b"other", None, false).await.unwrap());
    assert!(!put(one.id, "a", b"2", None, true).await.unwrap(), "it is there");
    assert!(put(one.id, "b", b"later", Some(20), true).await.unwrap());
    assert_eq!(store.app_value(one.id, "a", 10).await.unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.app_value(one.id, "b", 19).await.unwrap(), Some(b"later".to_vec()));
    assert_eq!(store.app_value(one.id, "b", 20).await.unwrap(), None, "it has expired");
    assert_eq!(store.app_keys(one.id, "", 9, 10).await.unwrap(), ["a", "b"]);
    assert_eq!(store.app_keys(one.id, "", 1, 10).await.unwrap(), ["a"]);
    assert_eq!(store.app_keys(one.id, "b", 9, 10).await.unwrap(), ["b"]);
    assert!(store.remove_app_value(one.id, "a", 10).await.unwrap());
    assert!(!store.remove_app_value(one.id, "a", 10).await.unwrap());
    assert_eq!(store.app_value(two.id, "a", 10).await.unwrap(), Some(b"other".to_vec()));

    store.change(Some(two.id), &Change::Destroy, None, &by()).await.unwrap();
    store.erase_app(two.id, &by()).await.unwrap();
    assert_eq!(store.app_value(two.id, "a", 10).await.unwrap(), None);
}

#[tokio::test]
async fn values_of_an_app_stay_within_its_quota() {
    let store = Fixture::new().await;
    let app = store.new_app("one").await.id;
    let value = [7; 50];
    let put = |key: &'static str, at_ms| {
        let store = &store.store;
        async move { store.put_app_value(app, (key, &value), Some(20), false, (110, at_ms)).await }
    };
    assert!(put("a", 10).await.unwrap());
    assert!(put("b", 10).await.unwrap());
    assert!(put("b", 10).await.unwrap(), "in its own place it fits");
    let full = put("c", 10).await;
    assert!(matches!(full, Err(KvError::Quota { quota_bytes: 110 })), "{full:?}");
    assert_eq!(store.app_value(app, "c", 10).await.unwrap(), None);
    assert!(put("c", 20).await.unwrap(), "what has expired gives its room back");
}
