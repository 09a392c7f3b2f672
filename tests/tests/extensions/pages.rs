//! Pages of extensions: drawn in a terminal for who may see them.

use std::path::Path;

use acceptance::Platform;
use acceptance::extensions::with_section;
use serde_json::json;

use super::receiver::Receiver;
use super::{data, grant, hello, name_of, plugin, said, scene};

const ID: &str = "berth.service-status";
const SERVICES: &str =
    r#"services=[{"name":"Chat","host":"chat.example"},{"name":"Mail","host":"receiver.example"}]"#;
/// The one server that may be asked.
const GRANT: &str = "\
http = [{ host = \"chat.example\", methods = [\"GET\"], ports = [443] }]
kv = { quota = \"64KiB\" }
clock = {}
";

/// What a status page says.
fn summary(indicator: &str, description: &str, part: &str) -> String {
    json!({
        "page": { "id": "p1", "name": "Chat", "url": "https://chat.example" },
        "status": { "indicator": indicator, "description": description },
        "components": [{ "id": "c1", "name": "Messages", "status": part, "group": false }],
        "incidents": [],
    })
    .to_string()
}

#[test]
fn the_services_of_a_team_are_drawn_also_when_one_is_down_or_its_page_is_away() {
    let scene = scene();
    let (receiver, authority) = Receiver::secured(&scene, 443, "chat.example");
    let bundle = "ssl/certs/ca-certificates.crt";
    scene.put_etc(bundle, &authority);
    let platform = Platform::start_elsewhere(&[], &[("SSL_CERT_FILE", &format!("/etc/{bundle}"))]);
    let granted = grant(GRANT);
    let install = || {
        let file = plugin("service-status");
        let arguments =
            ["ext", "install", &file, "--grant-file", name_of(&granted), "--set", SERVICES];
        platform.must(&arguments)
    };
    install();
    let listed = platform.must(&["ext", "pages"]);
    assert!(listed.contains("berth.service-status  services  a page of its own"), "{listed}");

    receiver.says(&summary("none", "All Systems Operational", "operational"));
    let page = platform.must(&["ext", "page", ID, "services"]);
    let asked = receiver.wait(1);
    assert_eq!(asked[0].line(), "GET /api/v2/summary.json HTTP/1.1");
    for line in [
        "Services\n========\n",
        "Chat     works      All Systems Operational  chat.example\n",
        // Nobody granted the other one: it is named, and the page is there.
        "Mail     not known                           receiver.example\n",
        "warning: It is not known how Mail does: ",
    ] {
        assert!(page.contains(line), "{line:?} is not in:\n{page}");
    }
    let shown = data(&platform, &["ext", "show", ID]);
    assert!(shown["health"]["denied"].as_u64() >= Some(1), "{shown}");
    // Who looks again within a minute asks nobody.
    let shown = data(&platform, &["ext", "page", ID, "services"]);
    assert_eq!(shown["page"]["title"], "Services");
    assert_eq!(shown["blocks"][1]["rows"][0][1], "works");
    assert_eq!(receiver.received().len(), 1);

    // What it kept goes with it, so that it asks again.
    platform.must(&["ext", "remove", ID, "--yes"]);
    install();
    receiver.says(&summary("critical", "Major Service Outage", "major_outage"));
    let page = platform.must(&["ext", "page", ID, "services"]);
    for line in [
        "error: Chat: Major Service Outage\n",
        "Chat     down       Major Service Outage  chat.example\n",
        "Chat\n----\n",
        "Messages  major outage\n",
    ] {
        assert!(page.contains(line), "{line:?} is not in:\n{page}");
    }

    platform.must(&["ext", "remove", ID, "--yes"]);
    install();
    drop(receiver);
    let page = platform.must(&["ext", "page", ID, "services"]);
    assert!(page.contains("warning: It is not known how Chat does: "), "{page}");
    assert!(page.contains("Chat     not known"), "{page}");
    let health = &data(&platform, &["ext", "show", ID])["health"];
    assert_eq!((&health["breaker"], health["calls"].get("error")), (&json!("healthy"), None));
}

#[test]
fn a_panel_is_drawn_for_who_sees_the_app_and_for_nobody_else() {
    let platform = Platform::start();
    hello().deploy(&platform, "hello");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("panel.wasm");
    std::fs::write(&file, panel()).unwrap();
    platform.must(&["ext", "install", file.to_str().unwrap(), "--apps", "hello"]);
    platform.must(&["teams", "create", "blue"]);
    let token = |arguments: &[&str]| {
        platform.must(&[&["tokens", "create"], arguments].concat()).trim().to_owned()
    };
    let viewer = token(&["--role", "viewer"]);
    let stranger = token(&["--role", "viewer", "--team", "blue"]);

    let drawn = |token: &str, app: &str| {
        said(platform.berth_as(token, &["ext", "page", "acme.panel", "panel", "--app", app]))
    };
    let (code, page, err) = drawn(&viewer, "hello");
    assert_eq!(
        (code, page.as_str()),
        (Some(0), "hello: Panel\n============\n\nknown to few\n"),
        "{err}"
    );
    // It is for an app that the stranger may not see, so neither is there.
    let (code, page, err) = drawn(&stranger, "hello");
    assert_eq!((code, page.as_str()), (Some(1), ""));
    assert!(err.contains("there is no extension 'acme.panel'"), "{err}");
    let (_, listed, _) = said(platform.berth_as(&stranger, &["ext", "pages"]));
    assert_eq!(listed, "");
    // For all apps, the stranger sees that it is there, and still nothing of this app.
    platform.must(&["ext", "apps", "acme.panel", "--all"]);
    let (_, listed, _) = said(platform.berth_as(&stranger, &["ext", "pages"]));
    assert!(listed.contains("acme.panel  panel  each app"), "{listed}");
    let (code, page, err) = drawn(&stranger, "hello");
    assert_eq!((code, page.as_str()), (Some(1), ""));
    assert!(err.contains("there is no app 'hello'"), "{err}");
    let (_, _, absent) = drawn(&stranger, "nobody");
    assert!(absent.contains("there is no app 'nobody'"), "{absent}");
}

/// An extension with a panel of each app.
fn panel() -> Vec<u8> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../platform/wit");
    let mut resolve = wit_parser::Resolve::default();
    let mut package = None;
    for name in ["types", "log", "config", "kv", "secrets", "http-out", "clock", "console"] {
        package = Some(resolve.push_dir(wit.join(name)).unwrap().0);
    }
    let world = resolve.select_world(&[package.unwrap()], Some("console")).unwrap();
    // One page at 32, the view at 256; what the host hands over goes to 4096.
    let mut module = wat::parse_str(
        r#"(module
             (memory (export "memory") 1)
             (data (i32.const 16) "\20\00\00\00\01\00\00\00")
             (data (i32.const 32) "\80\00\00\00\05\00\00\00\85\00\00\00\05\00\00\00\8a\00\00\00\03")
             (data (i32.const 128) "panelPanelapp")
             (data (i32.const 260) "\00\02\00\00\32")
             (data (i32.const 512) "{\"blocks\":[{\"type\":\"text\",\"text\":\"known to few\"}]}")
             (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096)
             (func (export "berth:console/pages@0.1.0#pages") (result i32) i32.const 16)
             (func (export "berth:console/pages@0.1.0#render")
               (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) i32.const 256))"#,
    )
    .unwrap();
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
    let mut component = wit_component::ComponentEncoder::default().module(&module).unwrap();
    let manifest = "[extension]\nid = 'acme.panel'\nversion = '1.0.0'\nkind = 'console'\n\
                    api = 'berth:console@0.1.0'\ndescription = 'Shows little.'\n[capabilities]\n";
    with_section(component.encode().unwrap(), "berth:extension", manifest.as_bytes())
}
