use berth_model::principal::Via;
use berth_model::{Role, UserName};
use berth_store::{
    NewKey, NewSession, NewToken, NewUser, Owner, SessionLimits, Store, StoreError, User, UserState,
};

use crate::{Fixture, by};

/// When everything happens.
const AT: i64 = 1_700_000_000_000;
const LIMITS: SessionLimits = SessionLimits { idle_ms: 1000, absolute_ms: 5000 };

async fn user(store: &Store, name: &str, role: Option<Role>) -> User {
    let name: UserName = name.parse().unwrap();
    let role = role.map(|role| (store.default_team(), role));
    store.create_user(&NewUser { name, role }, &by()).await.unwrap()
}

fn session(user: &User) -> NewSession {
    let agent = "a browser".to_owned();
    NewSession { user: user.id, sets_password: false, agent, limits: LIMITS }
}

/// Follows a link and chooses a password.
async fn with_password(store: &Store, user: &User, password: &str) -> String {
    let link = store.make_link(user.id, AT + 100, &by()).await.unwrap();
    let linked = store.follow_link(&link, String::new(), LIMITS, None, AT).await.unwrap().unwrap();
    assert!(store.set_password(user.id, password, None, linked.session.id, &by()).await.unwrap());
    linked.cookie
}

#[tokio::test]
async fn a_link_is_good_once_until_it_expires_or_another_is_made() {
    let store = Fixture::new().await;
    let anna = user(&store, "anna", None).await;
    let follow = async |link: &str, at| {
        store.follow_link(link, String::new(), LIMITS, None, AT + at).await.unwrap().is_some()
    };
    let first = store.make_link(anna.id, AT + 100, &by()).await.unwrap();
    assert!(!follow(&first, 100).await, "expired");
    assert!(!follow("0", 1).await);
    let second = store.make_link(anna.id, AT + 100, &by()).await.unwrap();
    assert!(!follow(&first, 1).await, "another was made");
    assert!(follow(&second, 99).await);
    assert!(!follow(&second, 99).await, "used");
    let third = store.make_link(anna.id, AT + 100, &by()).await.unwrap();
    store.set_user_state(anna.id, UserState::Disabled, &by()).await.unwrap();
    assert!(!follow(&third, 1).await, "disabled");
}

#[tokio::test]
async fn of_two_who_follow_a_link_at_once_one_gets_in() {
    let store = Fixture::new().await;
    let anna = user(&store, "anna", None).await;
    let link = store.make_link(anna.id, AT + 100, &by()).await.unwrap();
    let follow = || store.follow_link(&link, String::new(), LIMITS, None, AT);
    let (one, other) = tokio::join!(follow(), follow());
    assert!(one.unwrap().is_some() ^ other.unwrap().is_some());
}

#[tokio::test]
async fn the_session_of_a_link_chooses_one_password_and_what_was_known_before_ends() {
    let store = Fixture::new().await;
    let anna = user(&store, "anna", None).await;
    let old = with_password(&store, &anna, "$first").await;
    let (old_session, _) = {
        let found = store.caller_by_cookie(&old, None, LIMITS, AT).await.unwrap().unwrap();
        (found.1.id, found.0)
    };
    let set = async |password: &str, was: Option<&str>, session| {
        store.set_password(anna.id, password, was, session, &by()).await.unwrap()
    };
    assert!(!set("$second", None, old_session).await, "only once");
    assert!(!set("$second", Some("$other"), old_session).await);
    let new = store.sign_in(&session(&anna), "$first", &by()).await.unwrap().unwrap();
    assert!(set("$second", Some("$first"), new.0.id).await);
    assert_eq!(store.caller_by_cookie(&old, None, LIMITS, AT).await.unwrap(), None);
    assert!(store.caller_by_cookie(&new.1, None, LIMITS, AT).await.unwrap().is_some());
    // A hash that was read before the change is worth nothing after it.
    assert!(store.sign_in(&session(&anna), "$first", &by()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_session_ends_for_want_of_use_and_at_last() {
    let store = Fixture::new().await;
    let anna = user(&store, "anna", None).await;
    with_password(&store, &anna, "$hash").await;
    let at = AT;
    let (begun, cookie) = store.sign_in(&session(&anna), "$hash", &by()).await.unwrap().unwrap();
    let valid = async |after: i64| {
        let found = store.caller_by_cookie(&cookie, None, LIMITS, at + after).await.unwrap();
        let still = store.still_valid(Via::Session(begun.id), LIMITS, at + after).await.unwrap();
        assert_eq!(found.is_some(), still.is_some());
        found.is_some()
    };
    assert!(valid(999).await && !valid(1000).await);
    for used in [900, 1800, 2700, 3600, 4500] {
        store.session_seen(begun.id, at + used).await.unwrap();
    }
    assert!(valid(4999).await && !valid(5000).await);
    store.end_session(begun.id, &by()).await.unwrap();
    assert!(!valid(1).await);
}

#[tokio::test]
async fn what_is_a_users_acts_as_the_user_with_no_more_than_its_role() {
    let store = Fixture::new().await;
    let anna = user(&store, "anna", Some(Role::Operator)).await;
    let other = store.create_team(&"other".parse().unwrap(), &by()).await.unwrap();
    store.grant_role(anna.id, other.id, Role::Viewer, &by()).await.unwrap();
    let new = NewToken {
        owner: Owner::User(anna.id),
        ..NewToken::of_team("mine", store.default_team(), Role::Developer)
    };
    let (_, secret) = store.create_token(&new, &by()).await.unwrap();
    let key = NewKey {
        name: "mine".into(),
        owner: Owner::User(anna.id),
        role: Role::Admin,
        fingerprint: "SHA256:abc".into(),
        public_key: "ssh-ed25519 AAAA".into(),
    };
    store.add_key(&key, &by()).await.unwrap();
    let roles = async || {
        let token = store.caller_by_token(&secret, None, 1).await.unwrap()?;
        let key = store.caller_by_key("SHA256:abc", None).await.unwrap()?;
        assert_eq!((token.principal, key.principal), (anna.principal, anna.principal));
        let of = |caller: &berth_model::Caller| {
            (caller.role_in(store.default_team()), caller.role_in(other.id))
        };
        Some((of(&token), of(&key)))
    };
    let (token, key) = roles().await.unwrap();
    assert_eq!(token, (Some(Role::Developer), Some(Role::Viewer)));
    assert_eq!(key, (Some(Role::Operator), Some(Role::Viewer)));
    store.take_role(anna.id, store.default_team(), &by()).await.unwrap();
    assert_eq!(roles().await.unwrap().0, (None, Some(Role::Viewer)));
    store.set_user_state(anna.id, UserState::Disabled, &by()).await.unwrap();
    assert_eq!(roles().await, None);
    store.remove_user(anna.id, &by()).await.unwrap();
    assert_eq!(store.caller_by_token(&secret, None, 1).await.unwrap(), None);
    assert_eq!(store.caller_by_key("SHA256:abc", None).await.unwrap(), None);
    // The name stays for what was done under it.
    assert_eq!(store.principal_name(anna.principal).await.unwrap().as_deref(), Some("anna"));
}

#[tokio::test]
async fn the_last_administrator_who_may_act_stays() {
    let store = Fixture::new().await;
    let one = user(&store, "one", Some(Role::Admin)).await;
    let two = user(&store, "two", Some(Role::Admin)).await;
    let team = store.default_team();
    store.set_user_state(two.id, UserState::Disabled, &by()).await.unwrap();
    for refused in [
        store.remove_user(one.id, &by()).await,
        store.set_user_state(one.id, UserState::Disabled, &by()).await,
        store.grant_role(one.id, team, Role::Operator, &by()).await,
        store.take_role(one.id, team, &by()).await,
    ] {
        assert!(matches!(refused, Err(StoreError::LastAdministrator(_))), "{refused:?}");
    }
    assert_eq!(store.user(one.id).await.unwrap().state, UserState::Active);
    assert_eq!(store.memberships(one.id).await.unwrap()[0].role, Role::Admin);
    store.set_user_state(two.id, UserState::Active, &by()).await.unwrap();
    store.remove_user(one.id, &by()).await.unwrap();
    let refused = store.remove_user(two.id, &by()).await;
    assert!(matches!(refused, Err(StoreError::LastAdministrator(_))));
}

#[tokio::test]
async fn a_team_is_removed_when_it_has_nothing_and_the_default_one_never() {
    let store = Fixture::new().await;
    let team = store.create_team(&"blue".parse().unwrap(), &by()).await.unwrap();
    let anna = user(&store, "anna", None).await;
    store.grant_role(anna.id, team.id, Role::Admin, &by()).await.unwrap();
    let default = store.team(store.default_team()).await.unwrap().unwrap();
    let stays = async |team| {
        let refused = store.remove_team(team, &by()).await;
        matches!(refused, Err(StoreError::TeamStays { .. } | StoreError::LastAdministrator(_)))
    };
    assert!(stays(&default).await);
    assert!(stays(&team).await, "the last administrator's role is there");
    user(&store, "bert", Some(Role::Admin)).await;
    let new = NewToken::of_team("ci", team.id, Role::Viewer);
    let (token, _) = store.create_token(&new, &by()).await.unwrap();
    assert!(stays(&team).await, "it has a token");
    store.revoke_token(token.id, &by()).await.unwrap();
    store.remove_team(&team, &by()).await.unwrap();
    assert_eq!(store.team(team.id).await.unwrap(), None);
    assert!(store.memberships(anna.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_first_link_makes_the_administrator_once() {
    let store = Fixture::new().await;
    for link in ["first", "second"] {
        store.adopt_admin_link(&berth_store::token_hash(link), AT + 100, AT).await.unwrap();
    }
    assert_eq!(store.users(None, 10).await.unwrap().len(), 1);
    let follow = |link| store.follow_link(link, String::new(), LIMITS, None, AT);
    assert!(follow("first").await.unwrap().is_none());
    let linked = follow("second").await.unwrap().unwrap();
    let found = store.caller_by_cookie(&linked.cookie, None, LIMITS, AT).await.unwrap();
    assert!(found.unwrap().0.sees_all());
}

#[tokio::test]
async fn a_user_has_so_many_sessions_and_no_more() {
    let store = Fixture::new().await;
    let anna = user(&store, "anna", None).await;
    with_password(&store, &anna, "$hash").await;
    for _ in 0..40 {
        store.sign_in(&session(&anna), "$hash", &by()).await.unwrap().unwrap();
    }
    let all = store.sessions(anna.id, LIMITS, AT).await.unwrap();
    assert_eq!(all.len(), 32);
}
