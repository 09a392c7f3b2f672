use berth_model::plan::Change;
use berth_model::principal::Visible;
use berth_model::{PrincipalId, Role};
use berth_store::{Answer, By, Claim, NewKey, NewToken, Owner, StoreError, token_hash};

use crate::{Fixture, by};

fn new_token(store: &Fixture, name: &str, expires_at_ms: Option<i64>) -> NewToken {
    NewToken { expires_at_ms, ..NewToken::of_team(name, store.default_team(), Role::Developer) }
}

#[tokio::test]
async fn a_token_names_its_bearer_until_it_expires_or_is_revoked() {
    let store = Fixture::new().await;
    let (token, secret) =
        store.create_token(&new_token(&store, "ci", Some(1000)), &by()).await.unwrap();
    let caller = store.caller_by_token(&secret, None, 999).await.unwrap().unwrap();
    assert_eq!(
        (caller.name.as_str(), caller.role_in(caller.team), caller.team),
        ("ci", Some(Role::Developer), store.default_team())
    );
    assert_eq!(store.caller_by_token(&secret, None, 1000).await.unwrap(), None);
    assert_eq!(store.caller_by_token("berth_wrong", None, 1).await.unwrap(), None);
    store.revoke_token(token.id, &by()).await.unwrap();
    store.revoke_token(token.id, &by()).await.unwrap();
    assert_eq!(store.caller_by_token(&secret, None, 1).await.unwrap(), None);
}

#[tokio::test]
async fn the_secret_of_a_token_is_nowhere_on_the_disk() {
    let store = Fixture::new().await;
    let (_, secret) = store.create_token(&new_token(&store, "ci", None), &by()).await.unwrap();
    let bytes = std::fs::read(store.path().with_extension("sqlite-wal")).unwrap();
    let found = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(found(&token_hash(&secret)));
    assert!(!found(secret.strip_prefix("berth_").unwrap()));
}

#[tokio::test]
async fn names_of_tokens_are_given_once_in_a_team() {
    let store = Fixture::new().await;
    store.create_token(&new_token(&store, "ci", None), &by()).await.unwrap();
    let error = store.create_token(&new_token(&store, "ci", None), &by()).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { what: "token", .. }), "{error}");
}

#[tokio::test]
async fn a_new_administrators_token_takes_the_place_of_the_old_one() {
    let store = Fixture::new().await;
    for token in ["first", "first", "second"] {
        store.adopt_admin_token(&token_hash(token), 1).await.unwrap();
    }
    assert_eq!(store.caller_by_token("first", None, 1).await.unwrap(), None);
    let caller = store.caller_by_token("second", None, 1).await.unwrap().unwrap();
    assert_eq!((caller.name.as_str(), caller.highest_role()), ("admin", Some(Role::Admin)));
    assert_eq!(store.tokens(Visible::All, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_is_known_by_its_fingerprint_and_belongs_to_one_team() {
    let store = Fixture::new().await;
    let new = NewKey {
        name: "laptop".into(),
        owner: Owner::Team(store.default_team()),
        role: Role::Developer,
        fingerprint: "SHA256:abc".into(),
        public_key: "ssh-ed25519 AAAA".into(),
    };
    let key = store.add_key(&new, &by()).await.unwrap();
    let other = store.create_team(&"other".parse().unwrap(), &by()).await.unwrap();
    let again = NewKey { owner: Owner::Team(other.id), name: "desk".into(), ..new };
    let error = store.add_key(&again, &by()).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { what: "key", .. }), "{error}");
    let caller = store.caller_by_key("SHA256:abc", None).await.unwrap().unwrap();
    assert_eq!(caller.principal, key.principal);
    store.remove_key(key.id, &by()).await.unwrap();
    assert_eq!(store.caller_by_key("SHA256:abc", None).await.unwrap(), None);
    store.add_key(&again, &by()).await.unwrap();
}

#[tokio::test]
async fn a_team_is_created_once() {
    let store = Fixture::new().await;
    let name = "default".parse().unwrap();
    let error = store.create_team(&name, &by()).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!(store.team_by_name(&name).await.unwrap().unwrap().id, store.default_team());
}

#[tokio::test]
async fn a_request_is_done_once_whatever_happens_to_its_answer() {
    let store = Fixture::new().await;
    let who = PrincipalId::new(1, [1; 10]);
    let claim = |hash: &'static str| store.claim(who, "key", hash, 1);
    assert_eq!(claim("a").await.unwrap(), Claim::New);
    assert_eq!(claim("a").await.unwrap(), Claim::Begun { event: None });
    assert_eq!(claim("b").await.unwrap(), Claim::Other);
    store.disclaim(who, "key").await.unwrap();
    assert_eq!(claim("b").await.unwrap(), Claim::New);
    let answer = Answer { status: 202, location: Some("/x".into()), body: "{}".into() };
    store.answer(who, "key", &answer).await.unwrap();
    store.disclaim(who, "key").await.unwrap();
    let again = store.again().await;
    assert_eq!(again.claim(who, "key", "b", 2).await.unwrap(), Claim::Answered(answer));
    let other = PrincipalId::new(2, [2; 10]);
    assert_eq!(again.claim(other, "key", "b", 2).await.unwrap(), Claim::New);
}

#[tokio::test]
async fn a_request_that_was_cut_off_after_its_change_leads_to_the_changes_event() {
    let store = Fixture::new().await;
    let app = store.new_app("hello").await;
    let who = by().principal;
    assert_eq!(store.claim(who, "key", "a", 1).await.unwrap(), Claim::New);
    let once = By { once: Some("key".to_owned()), ..by() };
    let change = crate::configure(&[("A", "1")]);
    store.change(Some(app.id), &change, None, &once).await.unwrap();
    let event = store.newest_event().await.unwrap();
    store.change(Some(app.id), &Change::Stop, None, &once).await.unwrap();
    let again = store.again().await;
    let claimed = again.claim(who, "key", "a", 2).await.unwrap();
    assert_eq!(claimed, Claim::Begun { event: Some(event) }, "the first change counts");
}
