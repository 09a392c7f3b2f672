//! Hooks are told of events at least once, in the order of each app.

use berth_model::App;
use berth_model::extension::DeliveryRules;
use berth_model::plan::Change;
use berthd::extensions::ExtensionsConfig;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::guests::hook;
use crate::support::{World, by, config, configure, eventually, id};

fn takes(more: Value) -> Value {
    let mut config = json!({ "do": "take" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// Delivers, as long as it lives.
struct Delivering(JoinHandle<()>);

impl Delivering {
    fn of(world: &World) -> Self {
        Self(tokio::spawn(world.registry.clone().deliver()))
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn happens(world: &World, app: &App, name: &str) -> i64 {
    let changed = world.store.change(Some(app.id), &configure(name), None, &by()).await;
    assert!(!changed.unwrap().plan.is_empty());
    world.store.newest_event().await.unwrap()
}

/// Lines of its log that begin so, without that, once there are as many.
async fn lines(world: &World, begin: &str, count: usize) -> Vec<String> {
    eventually(&format!("{count} lines '{begin}…'"), async || {
        let log = world.log("acme.hook").await;
        let lines: Vec<String> =
            log.iter().filter_map(|line| line.strip_prefix(begin)).map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

/// Waits until nothing is left to deliver.
async fn until_delivered(world: &World) {
    eventually("the last delivery", async || {
        let row = world.store.extension(&id("acme.hook")).await.unwrap().unwrap();
        let seen = row.seen >= world.store.newest_event().await.unwrap();
        let left = world.store.deliveries(&id("acme.hook"), 100).await.unwrap();
        (seen && left.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hook_is_told_of_every_event_in_the_order_of_each_app() {
    let world = World::new().await;
    let other = world.app("other").await;
    world.install(&hook("1.0.0"), takes(json!({}))).await;
    let _delivering = Delivering::of(&world);
    let mut happened = Vec::new();
    for n in 0..10 {
        for app in [&world.app, &other] {
            happened.push(happens(&world, app, &format!("A{n}")).await);
        }
    }
    let took = lines(&world, "took ", 20).await;
    let seqs: Vec<i64> =
        took.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    let of = |parity: usize| -> Vec<i64> {
        let mine: Vec<i64> = happened.iter().skip(parity).step_by(2).copied().collect();
        seqs.iter().filter(|seq| mine.contains(seq)).copied().collect()
    };
    for parity in [0, 1] {
        let expected: Vec<i64> = happened.iter().skip(parity).step_by(2).copied().collect();
        assert_eq!(of(parity), expected);
    }
    until_delivered(&world).await;
    assert_eq!(lines(&world, "offered ", 20).await.len(), 20);
}

#[tokio::test]
async fn what_was_not_taken_is_offered_again_and_what_comes_after_it_waits() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), takes(json!({ "fails": 2 }))).await;
    let first = happens(&world, &world.app, "A").await;
    let second = happens(&world, &world.app, "B").await;
    let _delivering = Delivering::of(&world);
    let offered = lines(&world, "offered ", 6).await;
    let expected: Vec<String> = [first, second]
        .iter()
        .flat_map(|seq| (1..=3).map(move |attempt| format!("{seq} app.configured {attempt}")))
        .collect();
    assert_eq!(offered, expected);
    until_delivered(&world).await;
    assert_eq!(world.health("acme.hook").calls["error"], 4);
}

#[tokio::test]
async fn an_app_whose_event_is_not_taken_holds_up_no_other() {
    let delivery = DeliveryRules { wait_ms_min: 60_000, ..DeliveryRules::default() };
    let world = World::with(ExtensionsConfig { delivery, ..config() }).await;
    let other = world.app("other").await;
    world.install(&hook("1.0.0"), takes(json!({ "fails": 1 }))).await;
    let _delivering = Delivering::of(&world);
    let first = happens(&world, &world.app, "A").await;
    lines(&world, &format!("offered {first} "), 1).await;
    let second = happens(&world, &other, "A").await;
    lines(&world, &format!("offered {second} "), 1).await;
}

#[tokio::test]
async fn what_is_never_taken_becomes_a_dead_letter_that_is_replayed() {
    let delivery = DeliveryRules { attempts_max: 3, ..config().delivery };
    let world = World::with(ExtensionsConfig { delivery, ..config() }).await;
    world.install(&hook("1.0.0"), takes(json!({ "fails": 100 }))).await;
    let _delivering = Delivering::of(&world);
    let seq = happens(&world, &world.app, "A").await;
    let dead = eventually("a dead letter", async || {
        let left = world.store.deliveries(&id("acme.hook"), 10).await.unwrap();
        left.into_iter().find(|delivery| delivery.dead)
    })
    .await;
    assert_eq!((dead.event.seq, dead.attempts), (seq, 3));
    assert_eq!(dead.error.as_deref(), Some("not yet"));
    world
        .logged("acme.hook", "is given up; offer it again with `berth ext replay acme.hook`")
        .await;

    world.registry.configure(&id("acme.hook"), takes(json!({})), by()).await.unwrap();
    assert_eq!(world.registry.replay(&id("acme.hook"), Some(seq + 1)).await.unwrap(), 0);
    assert_eq!(world.registry.replay(&id("acme.hook"), Some(seq)).await.unwrap(), 1);
    assert_eq!(lines(&world, "took ", 1).await, [format!("{seq} app.configured")]);
    until_delivered(&world).await;
    assert_eq!(world.registry.replay(&id("acme.hook"), None).await.unwrap(), 0);
}

#[tokio::test]
async fn a_hook_that_fails_after_its_work_does_it_once() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), takes(json!({ "late": 3 }))).await;
    let _delivering = Delivering::of(&world);
    let seq = happens(&world, &world.app, "A").await;
    lines(&world, "offered ", 4).await;
    until_delivered(&world).await;
    assert_eq!(lines(&world, "took ", 1).await, [format!("{seq} app.configured")]);
}

#[tokio::test]
async fn the_next_process_goes_on_where_this_one_ended() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), takes(json!({ "fails": 1_000 }))).await;
    let first = happens(&world, &world.app, "A").await;
    let delivering = Delivering::of(&world);
    lines(&world, "offered ", 2).await;
    drop(delivering);
    // Between the processes.
    let second = happens(&world, &world.app, "B").await;
    let next = world.again().await;
    next.registry.configure(&id("acme.hook"), takes(json!({})), by()).await.unwrap();
    let _delivering = Delivering::of(&next);
    let took = lines(&next, "took ", 2).await;
    assert_eq!(took, [first, second].map(|seq| format!("{seq} app.configured")));
    until_delivered(&next).await;
}

#[tokio::test]
async fn a_hook_is_told_of_what_it_asked_for_since_it_is_there_and_of_its_apps() {
    let world = World::new().await;
    let other = world.app("other").await;
    happens(&world, &world.app, "BEFORE").await;
    world.install(&hook("1.0.0"), takes(json!({}))).await;
    world.registry.set_apps(&id("acme.hook"), Some(vec![other.id]), by()).await.unwrap();
    let _delivering = Delivering::of(&world);
    happens(&world, &world.app, "A").await;
    let domain = Change::AddDomain("www.example.org".parse().unwrap());
    world.store.change(Some(other.id), &domain, None, &by()).await.unwrap();
    let told = happens(&world, &other, "A").await;
    until_delivered(&world).await;
    assert_eq!(lines(&world, "took ", 1).await, [format!("{told} app.configured")]);
    assert_eq!(lines(&world, "offered ", 1).await.len(), 1);
}

#[tokio::test]
async fn one_that_is_disabled_is_told_nothing_and_afterwards_what_it_missed() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), takes(json!({}))).await;
    let _delivering = Delivering::of(&world);
    let first = happens(&world, &world.app, "A").await;
    until_delivered(&world).await;
    world.registry.disable(&id("acme.hook"), by()).await.unwrap();
    let second = happens(&world, &world.app, "B").await;
    let witness = witnessed(&world).await;
    assert_eq!(world.health("acme.hook").count(), 1, "the witness was told of {witness}");
    world.registry.resume(&id("acme.hook"), by()).await.unwrap();
    let took = lines(&world, "took ", 2).await;
    assert_eq!(took, [first, second].map(|seq| format!("{seq} app.configured")));
}

/// Another hook that is told of the same events: when it was, the first could have been too.
async fn witnessed(world: &World) -> i64 {
    let manifest = crate::guests::manifest("hook", "1.0.0", &crate::guests::everything_but(""))
        .replace("acme.hook", "acme.witness");
    let witness = crate::guests::component("hook", &manifest);
    world.install(&witness, takes(json!({}))).await;
    let seq = happens(world, &world.app, "WITNESS").await;
    world.logged("acme.witness", &format!("took {seq} ")).await;
    seq
}

#[tokio::test]
async fn a_blocking_hook_stops_what_is_about_to_happen() {
    let world = World::new().await;
    world.install(&hook("1.0.0"), json!({})).await;
    assert_eq!(world.hook(json!({ "do": "kv.get" })).await, "ok", "its error is the reason");
    let trap = world.hook(json!({ "do": "trap" })).await;
    assert!(trap.contains("unreachable"), "{trap}");
    world.registry.disable(&id("acme.hook"), by()).await.unwrap();
    assert_eq!(world.hook(json!({ "do": "trap" })).await, "nothing");
}
