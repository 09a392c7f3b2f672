//! Pages of extensions: shown to who may see them, and what is no view shows nothing.

use berth_api::{ExtensionPage, PagePlace, ViewBlock};
use berth_extensions::powers::CallError;
use berth_model::Role;
use berth_model::extension::{BreakerRules, BreakerState, Capabilities};
use berth_model::plan::Change;
use berth_store::NewToken;
use berthd::extensions::{Choice, ExtensionError, ExtensionsConfig, NotCalled, PanelOf};
use serde_json::{Value, json};

use crate::guests::{console, manifest, policy, with_manifest};
use crate::hostile;
use crate::http::Api;
use crate::packs::Packs;
use crate::support::{World, by, config, configure, id};

const ID: &str = "acme.console";

/// A configuration with a page of its own and a panel.
fn doing(what: &str) -> Value {
    json!({ "do": what, "pages": [
        { "id": "main", "title": "Main", "place": "platform" },
        { "id": "panel", "title": "Panel", "place": "app" },
    ] })
}

/// The same, which gives this.
fn giving(view: &Value) -> Value {
    let mut config = doing("give");
    config["give"] = json!(view.to_string());
    config
}

async fn drawn(world: &World, page: &str) -> Result<Vec<ViewBlock>, ExtensionError> {
    world.registry.page(&id(ID), page, None).await
}

async fn configured(world: &World, config: Value) {
    world.registry.configure(&id(ID), config, by()).await.unwrap();
}

fn panel(world: &World) -> PanelOf {
    let name = world.app.name.to_string();
    PanelOf { id: world.app.id, name, state: "{\"release\":1}".to_owned() }
}

/// The code of the error that it returned.
#[track_caller]
fn code(result: Result<Vec<ViewBlock>, ExtensionError>) -> String {
    match result {
        Err(ExtensionError::NotCalled(NotCalled::Call(CallError::Failure(failure)))) => {
            failure.code
        }
        other => panic!("it gave no error: {other:?}"),
    }
}

#[tokio::test]
async fn an_extension_has_the_pages_that_it_says_and_is_told_which_one_is_looked_at() {
    let world = World::new().await;
    world.install(&console("1.0.0"), doing("echo")).await;
    let page = |id: &str, title: &str, place| {
        let (id, title) = (id.to_owned(), title.to_owned());
        ExtensionPage { id, title, place }
    };
    let pages = world.registry.pages(&id(ID)).await.unwrap();
    let expected =
        [page("main", "Main", PagePlace::Platform), page("panel", "Panel", PagePlace::App)];
    assert_eq!(pages, expected);
    let told = |blocks: Vec<ViewBlock>| -> Value {
        let [ViewBlock::Code { text }] = blocks.as_slice() else { panic!("{blocks:?}") };
        serde_json::from_str(text).unwrap()
    };
    let asked = told(drawn(&world, "main").await.unwrap());
    assert_eq!(asked, json!({ "page": "main", "app": null, "state": null }));
    let of = Some(panel(&world));
    let asked = told(world.registry.page(&id(ID), "panel", of).await.unwrap());
    assert_eq!(asked, json!({ "page": "panel", "app": "hello", "state": "{\"release\":1}" }));
    world.logged(ID, "asked for panel").await;
    assert_eq!(world.health(ID).calls, [("ok", 3)].into());
}

#[tokio::test]
async fn an_extension_of_another_kind_has_no_pages() {
    let world = World::new().await;
    world.install(&policy("1.0.0"), json!({ "verdict": "allow" })).await;
    assert_eq!(world.registry.pages(&id("acme.policy")).await.unwrap(), []);
    let refused = world.registry.page(&id("acme.policy"), "main", None).await.unwrap_err();
    assert!(matches!(refused, ExtensionError::Conflict(_)), "{refused}");
    assert_eq!(world.health("acme.policy").count(), 0);
}

#[tokio::test]
async fn what_was_not_granted_is_denied_and_told_of() {
    let world = World::new().await;
    let (granted, config) = (Some(Capabilities::default()), Some(doing("keep")));
    let choice = Choice { granted, config, ..Choice::default() };
    world.try_install(&console("1.0.0"), choice).await.unwrap();
    assert_eq!(code(drawn(&world, "main").await), "denied");
    configured(&world, doing("ask")).await;
    assert_eq!(code(drawn(&world, "main").await), "denied");
    assert_eq!(world.health(ID).denied, 2);
    world.logged(ID, "denied: http").await;
    let told = world.event("extension.denied").await;
    assert_eq!((told.subject.as_str(), told.actor.as_str()), (ID, "extension:acme.console"));
    // With the grant it is done, as far as it goes: there is no such host (RFC 6761).
    let yes = Choice { accept: Some(review(&world).await), ..Choice::default() };
    world.registry.grant(&id(ID), yes, by()).await.unwrap();
    assert_eq!(code(drawn(&world, "main").await), "unreachable");
    configured(&world, doing("keep")).await;
    let refused = drawn(&world, "main").await.unwrap_err().to_string();
    assert_eq!(refused, "it was kept");
}

async fn review(world: &World) -> String {
    world.registry.review(console("1.0.0")).await.unwrap().hash
}

#[tokio::test]
async fn what_is_no_view_is_its_fault_and_says_which_block() {
    let world = World::new().await;
    world.install(&policy("1.0.0"), json!({ "verdict": "allow" })).await;
    let row = json!({ "type": "table", "head": ["A", "B", "C"], "rows": [["1", "2", "3", "4"]] });
    let text = json!({ "type": "text", "text": "" });
    world.install(&console("1.0.0"), giving(&json!({ "blocks": [text, text, row] }))).await;
    let told = "what the component gave is not valid: block 3: table row 1 has 4 cells, its head \
                has 3";
    for _ in 0..4 {
        assert_eq!(drawn(&world, "main").await.unwrap_err().to_string(), told);
    }
    world.logged(ID, told).await;
    assert_eq!(world.health(ID).calls, [("invalid", 4)].into());
    assert_eq!(world.health(ID).breaker, BreakerState::Healthy);
    // A list of pages that is none counts as well, and makes it rest.
    let mut wrong = doing("give");
    wrong["pages"][1]["id"] = json!("main");
    configured(&world, wrong).await;
    let refused = world.registry.pages(&id(ID)).await.unwrap_err().to_string();
    assert!(refused.ends_with("page 2: the id 'main' is there twice"), "{refused}");
    assert!(matches!(world.health(ID).breaker, BreakerState::Degraded { .. }));
    assert_eq!(world.event("extension.degraded").await.subject, ID);
    assert_eq!(world.judge(&configure("A")).await.unwrap(), ["looks good"], "others go on");
}

#[tokio::test]
async fn one_that_fails_too_often_is_not_asked_until_somebody_says_so() {
    let breaker = BreakerRules { rest_ms_min: 600_000, rest_ms_max: 600_000, ..config().breaker };
    let world = World::with(ExtensionsConfig { breaker, ..config() }).await;
    world.install(&console("1.0.0"), doing("trap")).await;
    for _ in 0..5 {
        drawn(&world, "main").await.unwrap_err();
    }
    for refused in
        [drawn(&world, "main").await.map(drop), world.registry.pages(&id(ID)).await.map(drop)]
    {
        let resting = matches!(refused, Err(ExtensionError::NotCalled(NotCalled::Resting(_))));
        assert!(resting, "{refused:?}");
    }
    assert_eq!((world.health(ID).calls["trap"], world.health(ID).refused), (5, 2));
    configured(&world, giving(&json!({ "blocks": [] }))).await;
    world.registry.resume(&id(ID), by()).await.unwrap();
    assert_eq!(drawn(&world, "main").await.unwrap(), []);
}

#[tokio::test]
async fn a_limit_ends_its_call_alone() {
    let world = World::new().await;
    world.install(&console("1.0.0"), doing("loop")).await;
    for (what, fault) in [("loop", "cpu"), ("fill", "memory"), ("trap", "trap")] {
        configured(&world, doing(what)).await;
        let ended = drawn(&world, "main").await.unwrap_err();
        let ExtensionError::NotCalled(NotCalled::Call(CallError::Guest(error))) = ended else {
            panic!("{what}: {ended}")
        };
        assert_eq!(error.fault.code(), fault);
    }
    let long = json!({ "blocks": [{ "type": "text", "text": "x".repeat(65_537) }] });
    configured(&world, giving(&long)).await;
    let refused = drawn(&world, "main").await.unwrap_err().to_string();
    assert!(refused.contains("block 1: its text has 65537 bytes"), "{refused}");
    configured(&world, giving(&json!({ "blocks": [] }))).await;
    assert_eq!(drawn(&world, "main").await.unwrap(), []);
    let calls = [("cpu", 1), ("invalid", 1), ("memory", 1), ("ok", 1), ("trap", 1)];
    assert_eq!(world.health(ID).calls, calls.into());
}

#[tokio::test]
async fn an_error_that_it_returns_is_shown_as_text_and_is_no_fault() {
    let world = World::new().await;
    world.install(&console("1.0.0"), doing("fail")).await;
    for _ in 0..10 {
        let told = drawn(&world, "main").await.unwrap_err().to_string();
        assert_eq!(told, "no, \\u{1b}[2Jnot today");
    }
    assert_eq!(world.health(ID).breaker, BreakerState::Healthy);
}

#[tokio::test]
async fn another_version_or_configuration_is_asked_from_the_next_look_on() {
    let world = World::new().await;
    world.install(&console("1.0.0"), doing("echo")).await;
    assert_eq!(world.registry.pages(&id(ID)).await.unwrap().len(), 2);
    configured(&world, giving(&json!({ "blocks": [] }))).await;
    assert_eq!(drawn(&world, "main").await.unwrap(), []);
    let (_, live) = world.try_install(&console("1.0.1"), Choice::default()).await.unwrap();
    assert!(live);
    assert_eq!((drawn(&world, "main").await.unwrap(), world.health(ID).loads), (vec![], 3));
    world.registry.disable(&id(ID), by()).await.unwrap();
    for refused in
        [drawn(&world, "main").await.map(drop), world.registry.pages(&id(ID)).await.map(drop)]
    {
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("is switched off"), "{told}");
    }
    world.registry.resume(&id(ID), by()).await.unwrap();
    assert_eq!(drawn(&world, "main").await.unwrap(), []);
    assert_eq!(drawn(&world.again().await, "main").await.unwrap(), [], "after a restart");
    let broken = world.again_without_code().await;
    let refused = drawn(&broken, "main").await.unwrap_err();
    let host = matches!(refused, ExtensionError::NotCalled(NotCalled::Call(CallError::Host(_))));
    assert!(host, "{refused}");
    assert!(broken.health(ID).broken.is_some());
}

#[tokio::test]
async fn what_a_hostile_console_gives_is_refused_or_drawn_as_text() {
    let world = World::new().await;
    let attacked = async |name: &str| {
        let component = with_manifest(hostile::guest(name), &manifest("console", "1.0.0", ""));
        world.install(&component, json!({})).await;
        let of = Some(panel(&world));
        let drawn = world.registry.page(&id(ID), "main", of).await;
        drawn.map_err(|error| error.to_string())
    };
    let told = attacked("console/gives-too-many-blocks").await.unwrap_err();
    assert!(told.ends_with("2000 blocks, 100 at most are taken"), "{told}");
    let told = attacked("console/gives-no-view").await.unwrap_err();
    assert!(told.ends_with("block 1: table row 1 has 4 cells, its head has 3"), "{told}");
    let drawn = attacked("console/draws-on-the-terminal").await.unwrap();
    let text = "\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\nerror: the platform is down".to_owned();
    assert_eq!(drawn, [ViewBlock::Heading { text }]);
    let told = attacked("console/gives-a-long-view").await.unwrap_err();
    assert!(told.contains("bytes of output"), "{told}");
}

/// The API with an app of another team, and tokens: a viewer of the first team, one of the other.
async fn with_teams() -> (Api, String, String) {
    let api = Api::start().await;
    let store = &api.world.store;
    let other = store.create_team(&"other".parse().unwrap(), &by()).await.unwrap().id;
    let create = Change::Create { name: "theirs".parse().unwrap(), team: other };
    store.change(None, &create, None, &by()).await.unwrap();
    let mut tokens = Vec::new();
    for team in [store.default_team(), other] {
        let name = format!("viewer of {team}");
        let new = NewToken::of_team(name, team, Role::Viewer);
        tokens.push(store.create_token(&new, &by()).await.unwrap().1);
    }
    let [ours, theirs]: [String; 2] = tokens.try_into().unwrap();
    (api, ours, theirs)
}

const PAGES: &str = "/v1/extensions/acme.console/pages";

#[tokio::test]
async fn a_panel_is_shown_to_who_sees_the_app_with_what_they_may_know_of_it() {
    let (api, ours, theirs) = with_teams().await;
    api.world.install(&console("1.0.0"), doing("echo")).await;
    for token in [&ours, &theirs] {
        let (status, listed) = api.get_as(token, PAGES).await;
        assert_eq!((status.as_u16(), listed["items"].as_array().unwrap().len()), (200, 2));
        let (status, _) = api.get_as(token, &format!("{PAGES}/main")).await;
        assert_eq!(status, 200);
    }
    let (status, shown) = api.get_as(&ours, &format!("{PAGES}/panel?app=hello")).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!((&shown["page"]["title"], &shown["app"]), (&json!("Panel"), &json!("hello")));
    let told: Value = serde_json::from_str(shown["blocks"][0]["text"].as_str().unwrap()).unwrap();
    let state: Value = serde_json::from_str(told["state"].as_str().unwrap()).unwrap();
    assert_eq!(state, api.get_as(&ours, "/v1/apps/hello").await.1, "as `berth apps info`");
    // An app of others is answered as one that is not there, and the extension is not asked.
    let before = api.world.health(ID).count();
    let (status, hidden) = api.get_as(&theirs, &format!("{PAGES}/panel?app=hello")).await;
    let (_, absent) = api.get_as(&theirs, &format!("{PAGES}/panel?app=holle")).await;
    assert_eq!((status.as_u16(), &hidden["detail"]), (404, &json!("there is no app 'hello'")));
    assert_eq!(absent["detail"], "there is no app 'holle'");
    assert_eq!(api.world.health(ID).count(), before);
    // A token for one app sees its panel, and no page.
    let hello = api.world.store.app_by_name(&"hello".parse().unwrap()).await.unwrap().unwrap();
    let whole = NewToken::of_team("of one app".to_owned(), hello.team, Role::Operator);
    let new = NewToken { apps: Some([hello.id].into()), ..whole };
    let (_, limited) = api.world.store.create_token(&new, &by()).await.unwrap();
    assert_eq!(api.get_as(&limited, &format!("{PAGES}/panel?app=hello")).await.0, 200);
    assert_eq!(api.get_as(&limited, &format!("{PAGES}/main")).await.0, 403);
    // A page and a panel are asked for as what they are.
    for (path, status) in
        [("main?app=hello", 422), ("panel", 422), ("other", 404), ("panel?apq=hello", 400)]
    {
        assert_eq!(api.get_as(&ours, &format!("{PAGES}/{path}")).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn an_extension_for_some_apps_is_not_there_for_others() {
    let (api, ours, theirs) = with_teams().await;
    api.world.install(&console("1.0.0"), doing("echo")).await;
    let second = api.world.app("second").await;
    let for_one = Some(vec![second.id]);
    api.world.registry.set_apps(&id(ID), for_one, by()).await.unwrap();
    assert_eq!(api.get_as(&ours, PAGES).await.0, 200);
    assert_eq!(api.get_as(&ours, &format!("{PAGES}/panel?app=second")).await.0, 200);
    let asked = api.world.health(ID).count();
    let (status, _) = api.get_as(&ours, &format!("{PAGES}/panel?app=hello")).await;
    assert_eq!(status, 404, "it is not for this app");
    for path in ["", "/main", "/panel?app=theirs", "/panel?app=second"] {
        let (status, problem) = api.get_as(&theirs, &format!("{PAGES}{path}")).await;
        let told = json!("there is no extension 'acme.console'");
        assert_eq!((status.as_u16(), &problem["detail"]), (404, &told), "{path}");
    }
    assert_eq!(api.world.health(ID).count(), asked, "it was not asked");
}

#[tokio::test]
async fn a_page_that_fails_says_so_and_nothing_of_the_platform() {
    let (api, ours, _) = with_teams().await;
    let main = format!("{PAGES}/main");
    api.world.install(&console("1.0.0"), doing("trap")).await;
    let (status, problem) = api.get_as(&ours, &main).await;
    assert_eq!((status.as_u16(), &problem["type"]), (502, &json!("extension-failed")));
    let told = problem["detail"].as_str().unwrap();
    assert!(told.contains("the component trapped") && !told.contains('\n'), "{told}");
    let view = json!({ "blocks": [{ "type": "script", "text": "" }] });
    configured(&api.world, giving(&view)).await;
    let (status, problem) = api.get_as(&ours, &main).await;
    let told = problem["detail"].as_str().unwrap();
    assert!(told.contains("block 1: unknown variant `script`"), "{told}");
    assert_eq!(status, 502);
    api.world.registry.disable(&id(ID), by()).await.unwrap();
    assert_eq!(api.get_as(&ours, &main).await.0, 409);
    api.world.registry.remove(&id(ID), by()).await.unwrap();
    assert_eq!(api.get_as(&ours, &main).await.0, 404);
}

#[tokio::test]
async fn pages_that_are_too_many_at_once_are_refused() {
    let breaker = BreakerRules { faults_max: 1_000, ..config().breaker };
    let world = World::with(ExtensionsConfig { breaker, ..config() }).await;
    world.install(&console("1.0.0"), doing("loop")).await;
    let packs = Packs::new(world.store.clone());
    let api = Api::over(world, Box::new(packs)).await;
    // Each takes as much processor time as it may, so that all of them are there at once.
    let path = format!("{PAGES}/main");
    let looks = (0..12).map(|_| api.call("GET", &path, Value::Null));
    let answers = futures_util::future::join_all(looks).await;
    let (ended, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(status, _)| *status == 502);
    assert_eq!((ended.len(), refused.len()), (8, 4));
    for (status, problem) in refused {
        let told = json!("other pages are being drawn; try again in a moment");
        assert_eq!((status.as_u16(), &problem["detail"]), (503, &told));
    }
    assert_eq!(api.call("GET", &path, Value::Null).await.0, 502, "there is room again");
}
