use std::collections::BTreeMap;

use super::*;
use crate::{AppSettings, Process, ReleaseId};

fn team(n: u8) -> TeamId {
    TeamId::new(0, [n; 10])
}

fn app() -> App {
    App {
        id: AppId::new(1, [1; 10]),
        name: "hello".parse().unwrap(),
        team: team(1),
        block: 0,
        settings: AppSettings::default(),
        current_release: Some(ReleaseId::new(1, [2; 10])),
        generation: 7,
        created_at_ms: 0,
    }
}

fn release(number: u64, config_version: u64) -> Release {
    let command = |text: &str| Process {
        command: vec![text.to_owned()],
        working_dir: "/workspace".into(),
        check: None,
    };
    let processes = ["web", "worker"].map(|name| (name.parse().unwrap(), command(name)));
    Release {
        id: ReleaseId::new(number, [2; 10]),
        app: app().id,
        number,
        image: Digest::from_sha256([u8::try_from(number).unwrap(); 32]),
        manifest: Manifest {
            processes: processes.into(),
            release: None,
            runtime: Runtime::Container,
            formation: BTreeMap::new(),
            wasm: crate::manifest::WasmSettings::default(),
        },
        config_version,
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        reason: "Deploy 0123456".into(),
        actor: crate::PrincipalId::new(0, [0; 10]),
        created_at_ms: 0,
    }
}

fn volume(name: &str, process: &str) -> Volume {
    Volume {
        id: crate::VolumeId::new(1, [3; 10]),
        app: app().id,
        name: name.parse().unwrap(),
        process: process.parse().unwrap(),
        path: "/data".parse().unwrap(),
        size_mib: 64,
        made: true,
        created_at_ms: 0,
    }
}

fn create_volume(name: &str, process: &str, path: &str) -> Change {
    let volume = NewVolume {
        name: name.parse().unwrap(),
        process: process.parse().unwrap(),
        path: path.parse().unwrap(),
        size_mib: 64,
    };
    Change::CreateVolume { volume, restart: true }
}

#[test]
fn a_volume_comes_with_new_instances_of_what_runs() {
    let made = plan(&state(), &create_volume("data", "web", "/data")).unwrap();
    let text = made.to_string();
    assert_eq!(text, "create volume data of 64 MiB, at /data in web\nreplace every instance\n");
    // Nothing runs that would have to begin anew.
    let idle = plan(&state(), &create_volume("data", "worker", "/data")).unwrap();
    assert_eq!(idle.changes.len(), 1);
}

#[test]
fn a_process_with_a_volume_is_never_scaled() {
    let mut state = state();
    let scale = |process: &str, count| Change::Scale([(process.parse().unwrap(), count)].into());
    assert!(plan(&state, &scale("worker", 2)).is_ok());
    state.volumes = vec![volume("data", "worker")];
    let refused = plan(&state, &scale("worker", 2)).unwrap_err();
    assert!(matches!(refused, Refusal::VolumeAlone { count: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("worker mounts the volume 'data'"), "{refused}");
    assert!(plan(&state, &scale("worker", 1)).is_ok());
    assert!(plan(&state, &scale("web", 2)).is_ok());
    // The other way round.
    state.volumes.clear();
    state.app.as_mut().unwrap().settings.scale.insert("web".parse().unwrap(), 2);
    let refused = plan(&state, &create_volume("data", "web", "/data")).unwrap_err();
    assert!(matches!(refused, Refusal::VolumeAlone { .. }), "{refused}");
    // And by what a release says of itself.
    let mut manifest = release(1, 0).manifest;
    manifest.formation.insert("worker".parse().unwrap(), 3);
    state.volumes = vec![volume("data", "worker")];
    let deploy = Change::Deploy {
        image: Digest::from_sha256([9; 32]),
        manifest: Box::new(manifest),
        commit: "c".into(),
    };
    assert!(matches!(plan(&state, &deploy), Err(Refusal::VolumeAlone { count: 3, .. })));
}

#[test]
fn volumes_do_not_lie_in_one_another() {
    let mut state = state();
    state.volumes = vec![volume("data", "web")];
    for (name, process, path) in [("other", "web", "/data"), ("other", "web", "/data/in")] {
        let refused = plan(&state, &create_volume(name, process, path));
        assert!(matches!(refused, Err(Refusal::VolumePathTaken { .. })), "{path}");
    }
    assert!(plan(&state, &create_volume("other", "worker", "/data")).is_ok());
    let taken = plan(&state, &create_volume("data", "worker", "/elsewhere"));
    assert!(matches!(taken, Err(Refusal::VolumeTaken(_))));
}

#[test]
fn what_a_volume_holds_goes_only_when_somebody_says_so_and_nobody_uses_it() {
    let mut state = state();
    state.volumes = vec![volume("data", "web")];
    let remove = Change::RemoveVolume("data".parse().unwrap());
    assert!(matches!(plan(&state, &remove), Err(Refusal::VolumeInUse { .. })));
    assert!(matches!(plan(&state, &Change::Destroy), Err(Refusal::HasVolumes(_))));
    let all = plan(&state, &Change::DestroyWithVolumes).unwrap();
    assert!(all.to_string().contains("what its volumes hold: data"), "{all}");
    state.app.as_mut().unwrap().settings.stopped = true;
    let removed = plan(&state, &remove).unwrap();
    assert_eq!(removed.to_string(), "remove volume data and what it holds\n");
    assert!(removed.changes[0].is_destructive());
}

fn config(values: &[(&str, &str)]) -> Config {
    values.iter().map(|(name, value)| (name.parse().unwrap(), Secret::new(*value))).collect()
}

fn state() -> State {
    State {
        app: Some(app()),
        free_block: Some(3),
        platform_domain: "localhost".into(),
        config_version: 4,
        config_newest: 4,
        config: config(&[("A", "hunter2"), ("B", "two")]),
        base: Some(release(5, 4)),
        current: Some(5),
        newest_release: 5,
        domains: ["www.example.org".parse().unwrap()].into(),
        others: vec![
            ("taken.example.org".parse().unwrap(), team(2)),
            ("*.wild.example.org".parse().unwrap(), team(2)),
        ],
        ..State::default()
    }
}

fn scale_of(pairs: &[(&str, u16)]) -> Change {
    Change::Scale(pairs.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect())
}

fn configure(set: &[(&str, &str)], unset: &[&str], release: bool) -> Change {
    let unset = unset.iter().map(|name| name.parse().unwrap()).collect();
    Change::Configure { set: config(set), unset, release }
}

#[test]
fn each_change_says_what_it_does() {
    let mut rolled = state();
    (rolled.target, rolled.target_config) = (Some(release(3, 2)), config(&[("A", "old")]));
    let mut text = String::new();
    for (title, state, change) in [
        ("scale", state(), scale_of(&[("web", 3), ("worker", 1)])),
        ("scale to what is there", state(), scale_of(&[("web", 1)])),
        ("config set and unset", state(), configure(&[("A", "other"), ("C", "new")], &["B"], true)),
        ("config set for later", state(), configure(&[("C", "new")], &[], false)),
        ("config set to what is there", state(), configure(&[("A", "hunter2")], &["NONE"], true)),
        ("rollback", rolled, Change::Rollback { to: Some(3) }),
        (
            "deploy",
            state(),
            Change::Deploy {
                image: Digest::from_sha256([9; 32]),
                manifest: Box::new(release(1, 1).manifest),
                commit: "fedcba9876".into(),
            },
        ),
        ("rename", state(), Change::Rename("hallo".parse().unwrap())),
        ("domain", state(), Change::AddDomain("example.org".parse().unwrap())),
        ("domain removed", state(), Change::RemoveDomain("www.example.org".parse().unwrap())),
        ("stop", state(), Change::Stop),
        ("start what runs", state(), Change::Start),
        ("restart", state(), Change::Restart),
        ("deploy branch", state(), Change::SetDeployBranch("main".into())),
        ("destroy", state(), Change::Destroy),
        (
            "create",
            State { app: None, ..state() },
            Change::Create { name: "new".parse().unwrap(), team: team(1) },
        ),
    ] {
        let plan = plan(&state, &change).unwrap();
        text.push_str(&format!("# {title}: {}\n{plan}\n", plan.kind));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_plan_never_shows_a_value() {
    let plan = plan(&state(), &configure(&[("A", "swordfish")], &[], true)).unwrap();
    let json = serde_json::to_string(&plan).unwrap();
    let shown = format!("{plan:?}{plan}{json}");
    assert!(!shown.contains("swordfish"), "{shown}");
    assert!(
        json.contains(r#"{"kind":"set_config","name":"A","value":"***","replaces":true}"#),
        "{json}"
    );
}

#[test]
fn what_stands_against_a_change_is_said() {
    let mut formation = state();
    formation.base.as_mut().unwrap().manifest.formation.insert("web".parse().unwrap(), 2);
    let mut wasm = state();
    wasm.base.as_mut().unwrap().manifest.runtime =
        Runtime::Wasm { component: Digest::from_sha256([0; 32]) };
    let mut stopped = state();
    stopped.app.as_mut().unwrap().settings.stopped = true;
    let mut fresh = State { base: None, current: None, newest_release: 0, ..state() };
    fresh.app.as_mut().unwrap().current_release = None;
    let target = State { target: Some(release(5, 4)), ..state() };
    let taken = State { name_taken: true, ..state() };
    let full = State { app: None, free_block: None, ..state() };
    let name: AppName = "other".parse().unwrap();
    let domain = |text: &str| Change::AddDomain(text.parse().unwrap());
    let mut text = String::new();
    for (state, change) in [
        (formation, scale_of(&[("web", 3)])),
        (wasm, scale_of(&[("web", 2)])),
        (state(), scale_of(&[("wbe", 2)])),
        (state(), scale_of(&[("web", 101)])),
        (state(), configure(&[("PORT", "1")], &[], true)),
        (state(), configure(&[("A", "1")], &["A"], true)),
        (state(), configure(&[("A", "a\0b")], &[], true)),
        (state(), configure(&[("A", &"x".repeat(65_537))], &[], true)),
        (state(), domain("taken.example.org")),
        (state(), domain("a.wild.example.org")),
        (state(), domain("*.example.org")),
        (state(), domain("localhost")),
        (state(), domain("other.localhost")),
        (state(), domain("*.localhost")),
        (state(), domain("10.0.0.1")),
        (state(), Change::RemoveDomain("no.example.org".parse().unwrap())),
        (stopped, Change::Restart),
        (fresh, Change::Restart),
        (state(), Change::Rollback { to: Some(99) }),
        (state(), Change::Rollback { to: None }),
        (target, Change::Rollback { to: Some(5) }),
        (taken, Change::Rename(name.clone())),
        (full, Change::Create { name: name.clone(), team: team(1) }),
        (state(), Change::SetDeployBranch("a\nb".into())),
        (State::default(), Change::Stop),
    ] {
        text.push_str(&format!("{}\n", plan(&state, &change).unwrap_err()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_wildcard_and_a_host_below_it_may_belong_to_one_team() {
    let mut state = state();
    state.others.push(("*.mine.example.org".parse().unwrap(), team(1)));
    let change = Change::AddDomain("a.mine.example.org".parse().unwrap());
    assert!(plan(&state, &change).is_ok());
    let change = Change::AddDomain("notlocalhost".parse().unwrap());
    assert!(plan(&state, &change).is_ok(), "only whole labels count");
}

#[test]
fn a_first_scale_is_accepted_before_anything_is_known_of_the_processes() {
    let state = State { base: None, newest_release: 0, ..state() };
    assert_eq!(plan(&state, &scale_of(&[("worker", 2)])).unwrap().changes.len(), 1);
}

#[test]
fn configuration_without_a_release_waits_for_the_first_push() {
    let state = State { base: None, newest_release: 0, ..state() };
    let plan = plan(&state, &configure(&[("C", "new")], &[], true)).unwrap();
    assert_eq!(plan.to_string(), "set C (new)\n");
}

#[test]
fn the_whole_configuration_is_bounded() {
    let values: Vec<(String, String)> =
        (0..9).map(|n| (format!("N{n}"), "x".repeat(60_000))).collect();
    let set = values.iter().map(|(n, v)| (n.parse().unwrap(), Secret::new(v.as_str()))).collect();
    let change = Change::Configure { set, unset: BTreeSet::new(), release: true };
    assert!(matches!(plan(&state(), &change), Err(Refusal::ConfigTooLarge { .. })));
}

#[test]
fn names_of_variables_follow_the_rule() {
    for good in ["A", "_a", "A1_b"] {
        assert!(good.parse::<ConfigName>().is_ok(), "{good}");
    }
    for bad in ["", "1A", "A-B", "A=B", "A B", "Ä", "A\n", &"A".repeat(257)] {
        assert!(bad.parse::<ConfigName>().is_err(), "{bad}");
    }
}

fn addon() -> crate::addon::Addon {
    crate::addon::Addon {
        extension: "berth.redis".parse().unwrap(),
        options: serde_json::json!({}),
        port: 6379,
        exports: Vec::new(),
    }
}

fn attach() -> Change {
    Change::Attach {
        addon: AppId::new(9, [9; 10]),
        name: "cache".parse().unwrap(),
        port: 6379,
        set: Config::from([("REDIS_URL".parse().unwrap(), Secret::new("redis://"))]),
    }
}

#[test]
fn an_addon_is_changed_by_what_concerns_addons_alone() {
    let mut state = state();
    if let Some(app) = &mut state.app {
        app.settings.addon = Some(addon());
    }
    for change in [
        Change::Rename("other".parse().unwrap()),
        Change::DestroyWithVolumes,
        Change::SetDeployBranch("main".into()),
        Change::Scale(BTreeMap::from([("web".parse().unwrap(), 2)])),
        Change::RemoveVolume("data".parse().unwrap()),
        Change::Rollback { to: Some(1) },
        attach(),
    ] {
        assert!(matches!(plan(&state, &change), Err(Refusal::IsAddon(_))), "{change:?}");
    }
    for change in [Change::Stop, Change::Restart] {
        assert!(plan(&state, &change).is_ok(), "{change:?}");
    }
    let attached = State { attached: vec!["shop".parse().unwrap()], ..state.clone() };
    let refused = plan(&attached, &Change::RemoveAddon).unwrap_err().to_string();
    assert_eq!(refused, "the add-on is attached to shop; detach it first");
    assert!(plan(&state, &Change::RemoveAddon).unwrap().changes[0].is_destructive());
    if let Some(app) = &mut state.app {
        app.settings.addon = None;
    }
    assert!(matches!(plan(&state, &Change::RemoveAddon), Err(Refusal::NotAddon(_))));
}

#[test]
fn an_attached_app_has_the_variables_in_a_new_release_until_it_is_detached() {
    let mut state = state();
    let made = plan(&state, &attach()).unwrap();
    let text = made.to_string();
    assert!(text.starts_with("let it reach port 6379 of cache\nset REDIS_URL (new)\n"), "{text}");
    assert!(matches!(made.changes.last(), Some(Effect::Deploy { .. })), "{text}");
    let Some(Effect::Attach { addon, name, link }) = made.changes.first().cloned() else {
        panic!("{text}")
    };
    let detach = Change::Detach { addon, name };
    assert!(matches!(plan(&state, &detach), Err(Refusal::NotAttached(_))));
    // A variable that the app has of its own is not written over.
    state.config.insert("REDIS_URL".parse().unwrap(), Secret::new("mine"));
    assert!(matches!(plan(&state, &attach()), Err(Refusal::ExportTaken(_))));
    if let Some(app) = &mut state.app {
        app.settings.links.insert(addon, link);
    }
    assert!(matches!(plan(&state, &attach()), Err(Refusal::Attached(_))));
    let text = plan(&state, &detach).unwrap().to_string();
    assert!(text.starts_with("let it reach cache no more\nunset REDIS_URL\n"), "{text}");
}
