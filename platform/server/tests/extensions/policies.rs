//! Policies: one no is a no, and whatever is not a yes is a no.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_model::extension::BreakerRules;
use berth_model::plan::Change;
use berth_store::{By, ExtensionState};
use berthd::extensions::{Choice, ExtensionsConfig};
use serde_json::{Value, json};

use crate::guests::{plugin, policy};
use crate::support::{World, by, compile, config, configure, id, within};

fn says(verdict: &str) -> Value {
    json!({ "verdict": verdict })
}

async fn says_now(world: &World, verdict: &str) {
    world.registry.configure(&id("acme.policy"), says(verdict), by()).await.unwrap();
}

#[tokio::test]
async fn a_policy_allows_with_remarks_or_denies_with_a_reason() {
    let world = World::new().await;
    assert_eq!(world.judge(&configure("A")).await.unwrap(), [""; 0], "nobody is asked");
    world.install(&policy("1.0.0"), says("allow")).await;
    assert_eq!(world.judge(&configure("A")).await.unwrap(), ["looks good"]);
    says_now(&world, "deny").await;
    let denial = world.judge(&configure("A")).await.unwrap_err().to_string();
    assert_eq!(denial, "acme.policy does not allow it: not today");
    world.logged("acme.policy", "judged app.configured").await;
}

#[tokio::test]
async fn a_policy_that_fails_is_a_no_and_says_so() {
    let world = World::new().await;
    for (verdict, told) in
        [("trap", "unreachable"), ("loop", "processor time"), ("unknown", "is no verdict")]
    {
        world.install(&policy("1.0.0"), says(verdict)).await;
        let denial = world.judge(&configure("A")).await.unwrap_err();
        assert!(denial.reason.starts_with("it gave no verdict"), "{denial}");
        assert!(denial.reason.contains(told), "{verdict}: {denial}");
        assert!(denial.reason.contains("berth ext disable acme.policy"), "{denial}");
    }
}

#[tokio::test]
async fn a_policy_that_rests_or_is_quarantined_is_a_no_until_it_is_disabled() {
    let breaker = BreakerRules {
        faults_max: 1,
        rests_max: 2,
        rest_ms_min: 100,
        rest_ms_max: 100,
        ..BreakerRules::default()
    };
    let world = World::with(ExtensionsConfig { breaker, ..config() }).await;
    world.install(&policy("1.0.0"), says("trap")).await;
    world.judge(&configure("A")).await.unwrap_err();
    let denial = world.judge(&configure("A")).await.unwrap_err();
    assert!(denial.reason.contains("failed too often"), "it rests: {denial}");
    assert_eq!(world.health("acme.policy").refused, 1);
    // It is asked again after its rest, and fails again.
    crate::support::eventually("a quarantine", async || {
        world.judge(&configure("A")).await.unwrap_err();
        let row = world.store.extension(&id("acme.policy")).await.unwrap().unwrap();
        (row.state == ExtensionState::Quarantined).then_some(())
    })
    .await;
    says_now(&world, "allow").await;
    world.judge(&configure("A")).await.unwrap_err();
    world.registry.disable(&id("acme.policy"), by()).await.unwrap();
    assert_eq!(world.judge(&configure("A")).await.unwrap(), [""; 0]);
    world.registry.resume(&id("acme.policy"), by()).await.unwrap();
    assert_eq!(world.judge(&configure("A")).await.unwrap(), ["looks good"]);
}

#[tokio::test]
async fn a_policy_that_cannot_be_loaded_is_a_no_until_it_is_disabled() {
    let world = World::new().await;
    world.install(&policy("1.0.0"), says("allow")).await;
    let next = world.again_without_code().await;
    let denial = next.judge(&configure("A")).await.unwrap_err();
    assert!(denial.reason.contains("is not loaded"), "{denial}");
    assert!(next.health("acme.policy").broken.is_some());
    next.logged("acme.policy", "not loaded: ").await;
    // Neither does resuming it let anything through.
    next.registry.resume(&id("acme.policy"), by()).await.unwrap_err();
    next.judge(&configure("A")).await.unwrap_err();
    next.registry.disable(&id("acme.policy"), by()).await.unwrap();
    assert_eq!(next.judge(&configure("A")).await.unwrap(), [""; 0]);
    let after = world.again_without_code().await;
    assert_eq!(after.judge(&configure("A")).await.unwrap(), [""; 0], "also after a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_gets_through_while_a_policy_is_replaced() {
    let world = Arc::new(World::new().await);
    let other = policy("2.0.0");
    compile(&other).await;
    world.install(&policy("1.0.0"), says("deny")).await;
    let done = Arc::new(AtomicBool::new(false));
    let asking = {
        let (world, done) = (Arc::clone(&world), Arc::clone(&done));
        tokio::spawn(async move {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                let verdict = world.judge(&configure("A")).await;
                assert!(verdict.is_err(), "it got through: {verdict:?}");
                asked += 1;
                tokio::task::yield_now().await;
            }
            asked
        })
    };
    let registry = &world.registry;
    for _ in 0..30 {
        registry.resume(&id("acme.policy"), by()).await.unwrap();
        registry.install(policy("1.0.0"), Choice::default(), by()).await.unwrap();
        registry.install(other.clone(), Choice::default(), by()).await.unwrap();
        registry.configure(&id("acme.policy"), says("deny"), by()).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    assert!(within("the last verdict", asking).await.unwrap() > 10);
}

#[tokio::test]
async fn a_policy_is_asked_about_its_apps_alone() {
    let world = World::new().await;
    world.install(&policy("1.0.0"), says("deny")).await;
    let other = world.app("other").await;
    world.registry.set_apps(&id("acme.policy"), Some(vec![other.id]), by()).await.unwrap();
    assert_eq!(world.judge(&configure("A")).await.unwrap(), [""; 0]);
    world.registry.set_apps(&id("acme.policy"), Some(vec![world.app.id]), by()).await.unwrap();
    world.judge(&configure("A")).await.unwrap_err();
    // A new app is none of its apps.
    let create = Change::Create { name: "new".parse().unwrap(), team: world.store.default_team() };
    let plan = world.store.plan(None, &create).await.unwrap();
    assert!(world.registry.judge(None, &create, &plan, &by()).await.is_ok());
    world.registry.set_apps(&id("acme.policy"), None, by()).await.unwrap();
    assert!(world.registry.judge(None, &create, &plan, &by()).await.is_err());
}

#[tokio::test]
async fn stopping_an_app_is_never_judged() {
    let world = World::new().await;
    world.install(&policy("1.0.0"), says("deny")).await;
    assert_eq!(world.judge(&Change::Stop).await.unwrap(), [""; 0]);
    assert_eq!(world.health("acme.policy").count(), 0);
}

#[tokio::test]
async fn a_policy_is_overridden_with_a_reason_that_is_recorded() {
    let world = World::new().await;
    world.install(&policy("1.0.0"), says("deny")).await;
    let overriding = By { overrides: Some("the site is down".to_owned()), ..by() };
    let remarks = world.judge_as(&configure("A"), &overriding).await.unwrap();
    assert_eq!(remarks, ["acme.policy was overridden; it says: not today"]);
    let event = world.event("policy.overridden").await;
    assert_eq!((event.actor.as_str(), event.app), ("user:olga", Some(world.app.id)));
    assert_eq!(event.subject, "acme.policy");
    assert_eq!(event.after["reason"], "the site is down");
    assert_eq!(event.after["denied"], "not today");
    assert_eq!(event.after["change"], "app.configured");
    // So is one that fails; and what is allowed is not recorded.
    says_now(&world, "trap").await;
    world.judge_as(&configure("A"), &overriding).await.unwrap();
    assert_eq!(world.events("policy.overridden").await.len(), 2);
    says_now(&world, "allow").await;
    world.judge_as(&configure("A"), &overriding).await.unwrap();
    assert_eq!(world.events("policy.overridden").await.len(), 2);
    says_now(&world, "deny").await;
    world.judge(&configure("A")).await.unwrap_err();
}

#[tokio::test]
async fn what_is_not_recorded_is_not_overridden() {
    let world = World::new().await;
    world.install(&policy("1.0.0"), says("deny")).await;
    let overriding = By { overrides: Some("the site is down".to_owned()), ..by() };
    let change = configure("A");
    let plan = world.store.plan(Some(world.app.id), &change).await.unwrap();
    world.store.close().await;
    let denial = world.registry.judge(Some(&world.app), &change, &plan, &overriding).await;
    assert!(denial.unwrap_err().reason.contains("could not be recorded"));
}

#[tokio::test]
async fn the_policies_that_ship_judge_releases_and_sizes() {
    let world = World::new().await;
    let every_day = json!({ "days": [
        "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
    ] });
    world.install(&plugin("no-deploy-days"), every_day).await;
    world.judge(&configure("A")).await.unwrap();
    let release = crate::support::deploy();
    let denial = world.judge(&release).await.unwrap_err();
    assert!(denial.reason.contains("nothing is released on a"), "{denial}");
    world.registry.disable(&id("berth.no-deploy-days"), by()).await.unwrap();
    world.judge(&release).await.unwrap();

    world.install(&plugin("instance-rules"), json!({ "memory-mib-max": 16 })).await;
    let denial = world.judge(&release).await.unwrap_err();
    assert_eq!(denial.extension, id("berth.instance-rules"));
}
