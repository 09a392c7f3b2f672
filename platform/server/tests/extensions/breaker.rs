//! An extension that fails too often rests, and then is called no more until somebody says so.

use std::sync::Arc;

use berth_model::extension::{BreakerRules, BreakerState};
use berth_store::ExtensionState;
use berthd::extensions::{Choice, ExtensionsConfig};
use serde_json::json;

use crate::guests::hook;
use crate::support::{World, by, compile, config, does, eventually, id, now_ms};

async fn trap(world: &World) -> String {
    world.hook(does("trap")).await
}

async fn state(world: &World) -> ExtensionState {
    world.store.extension(&id("acme.hook")).await.unwrap().unwrap().state
}

/// With 5 faults to a rest of 50 ms, and `rests_max` of those to a quarantine.
async fn world(rests_max: u32) -> World {
    let breaker = BreakerRules { rests_max, ..config().breaker };
    let world = World::with(ExtensionsConfig { breaker, ..config() }).await;
    world.install(&hook("1.0.0"), json!({})).await;
    world
}

async fn quarantined(rests_max: u32) -> World {
    let world = world(rests_max).await;
    eventually("a quarantine", async || {
        trap(&world).await;
        (state(&world).await == ExtensionState::Quarantined).then_some(())
    })
    .await;
    world
}

#[tokio::test]
async fn five_faults_make_a_rest_in_which_it_is_not_called() {
    let world = world(3).await;
    for fault in 1..=5 {
        assert_eq!(world.health("acme.hook").breaker, BreakerState::Healthy, "{fault}");
        assert!(trap(&world).await.contains("unreachable"));
    }
    let health = world.health("acme.hook");
    let BreakerState::Degraded { until_ms } = health.breaker else { panic!("{health:?}") };
    assert!(until_ms <= now_ms() + 50);
    assert_eq!(health.calls["trap"], 5);
    if now_ms() < until_ms - 20 {
        let refused = world.hook(does("kv.get")).await;
        assert!(refused.contains("failed too often"), "{refused}");
        assert_eq!(world.health("acme.hook").refused, 1);
    }
    assert_eq!(world.event("extension.degraded").await.subject, "acme.hook");
    world.logged("acme.hook", "failed too often; it is not called for").await;
    let metrics = world.registry.prometheus();
    let traps = "berth_extension_calls_total{extension=\"acme.hook\",outcome=\"trap\"} 5\n";
    assert!(metrics.contains(traps), "{metrics}");
    eventually("the end of its rest", async || {
        (world.hook(does("kv.get")).await == "ok").then_some(())
    })
    .await;
    assert_eq!(state(&world).await, ExtensionState::Active);
}

#[tokio::test]
async fn errors_that_it_returns_are_no_faults() {
    let world = world(1).await;
    for _ in 0..20 {
        assert_eq!(world.hook(does("kv.get")).await, "ok");
    }
    assert_eq!(world.health("acme.hook").breaker, BreakerState::Healthy);
    assert_eq!(world.health("acme.hook").calls["error"], 20);
}

#[tokio::test]
async fn three_rests_make_a_quarantine_that_a_person_ends() {
    let world = quarantined(3).await;
    assert_eq!(world.health("acme.hook").calls["trap"], 15);
    assert_eq!(world.health("acme.hook").breaker, BreakerState::Quarantined);
    assert_eq!(world.event("extension.quarantined").await.subject, "acme.hook");
    assert_eq!(world.events("extension.degraded").await.len(), 2);
    let log = world.logged("acme.hook", "it is not called until `berth ext resume`").await;
    assert!(log.iter().any(|line| line.contains("unreachable")), "{log:?}");
    let metrics = world.registry.prometheus();
    assert!(metrics.contains("berth_extension_breaker_state{extension=\"acme.hook\"} 2\n"));
    let refused = world.hook(does("kv.get")).await;
    assert!(refused.contains("failed too often"), "{refused}");
    // Neither does another configuration end it.
    world.registry.configure(&id("acme.hook"), json!({}), by()).await.unwrap();
    assert!(world.hook(does("kv.get")).await.contains("failed too often"));
    world.registry.resume(&id("acme.hook"), by()).await.unwrap();
    assert_eq!(world.hook(does("kv.get")).await, "ok");
    // Its faults are forgotten, what it did is not.
    trap(&world).await;
    assert_eq!(world.health("acme.hook").breaker, BreakerState::Healthy);
    assert_eq!(world.health("acme.hook").calls["trap"], 16);
}

#[tokio::test]
async fn a_quarantine_lasts_over_a_restart_and_ends_with_another_component() {
    let world = quarantined(1).await;
    let next = world.again().await;
    assert_eq!(next.health("acme.hook").breaker, BreakerState::Quarantined);
    assert!(next.hook(does("kv.get")).await.contains("failed too often"));
    // The same component is no reason to call it again.
    next.try_install(&hook("1.0.0"), Choice::default()).await.unwrap();
    assert_eq!(state(&next).await, ExtensionState::Quarantined);
    assert!(next.hook(does("kv.get")).await.contains("failed too often"));
    next.try_install(&hook("1.0.1"), Choice::default()).await.unwrap();
    assert_eq!(next.hook(does("kv.get")).await, "ok");
    assert_eq!(state(&next).await, ExtensionState::Active);
    assert_eq!(next.health("acme.hook").calls.get("trap"), None, "that was another component");
}

#[tokio::test]
async fn a_rest_is_ended_by_a_person_too() {
    let breaker = BreakerRules { rest_ms_min: 600_000, rest_ms_max: 600_000, ..config().breaker };
    let world = World::with(ExtensionsConfig { breaker, ..config() }).await;
    world.install(&hook("1.0.0"), json!({})).await;
    for _ in 0..5 {
        trap(&world).await;
    }
    assert!(world.hook(does("kv.get")).await.contains("failed too often"));
    world.registry.configure(&id("acme.hook"), json!({}), by()).await.unwrap();
    assert!(world.hook(does("kv.get")).await.contains("failed too often"));
    world.registry.resume(&id("acme.hook"), by()).await.unwrap();
    assert_eq!(world.hook(does("kv.get")).await, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_ends_late_undoes_nothing_that_a_person_decided_meanwhile() {
    let breaker = BreakerRules { faults_max: 1, rests_max: 1, ..config().breaker };
    let world = Arc::new(World::with(ExtensionsConfig { breaker, ..config() }).await);
    let next = hook("1.0.1");
    compile(&next).await;
    world.install(&hook("1.0.0"), json!({})).await;
    let begin = async |calls: usize| {
        let trapping = Arc::clone(&world);
        let call = tokio::spawn(async move { trapping.hook(does("wait then trap")).await });
        eventually("a call", async || {
            let log = world.log("acme.hook").await;
            (log.iter().filter(|line| *line == "begun").count() == calls).then_some(())
        })
        .await;
        call
    };
    // Switched off while a call is under way.
    let call = begin(1).await;
    world.registry.disable(&id("acme.hook"), by()).await.unwrap();
    assert!(!call.is_finished());
    assert!(call.await.unwrap().contains("unreachable"));
    assert_eq!(state(&world).await, ExtensionState::Disabled);
    // Replaced while a call is under way.
    world.registry.resume(&id("acme.hook"), by()).await.unwrap();
    let call = begin(2).await;
    world.registry.install(next, Choice::default(), by()).await.unwrap();
    assert!(!call.is_finished());
    assert!(call.await.unwrap().contains("unreachable"));
    assert_eq!(state(&world).await, ExtensionState::Active);
    assert_eq!(world.hook(does("kv.get")).await, "ok");
}
