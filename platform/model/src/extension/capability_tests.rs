//! What covers what, and what is refused.

use super::*;

fn set(text: &str) -> Capabilities {
    toml::from_str(text).unwrap()
}

#[test]
fn nothing_covers_only_nothing() {
    let nothing = Capabilities::default();
    assert!(nothing.covers(&nothing));
    for asked in [
        "kv = { quota = \"1KiB\" }",
        "http = [{ host = \"a.example\", methods = [\"GET\"] }]",
        "events = { kinds = [\"app.created\"] }",
        "secrets = [{ name = \"a\" }]",
        "secrets-read = [{ name = \"a\" }]",
        "emit = [{ name = \"a\" }]",
        "counters = {}",
        "clock = {}",
        "metrics = {}",
        "body = { bytes = \"1KiB\" }",
    ] {
        let asked = set(asked);
        assert!(!nothing.covers(&asked), "{asked:?}");
        assert!(asked.covers(&asked), "{asked:?}");
        assert_eq!(nothing.beyond(&asked).len(), 1, "{asked:?}");
        assert!(asked.beyond(&asked).is_empty());
    }
}

#[test]
fn more_of_the_same_is_more() {
    let granted =
        set("http = [{ host = \"*.example.com\", methods = [\"GET\", \"POST\"], ports = [443] }]
         kv = { quota = \"1MiB\" }
         events = { kinds = [\"deployment.*\", \"app.created\"] }
         secrets-read = [{ name = \"a\" }]");
    for (asked, covered) in [
        ("http = [{ host = \"a.example.com\", methods = [\"GET\"] }]", true),
        ("http = [{ host = \"*.b.example.com\", methods = [\"GET\"] }]", true),
        ("http = [{ host = \"example.com\", methods = [\"GET\"] }]", false),
        ("http = [{ host = \"*\", methods = [\"GET\"] }]", false),
        ("http = [{ host = \"badexample.com\", methods = [\"GET\"] }]", false),
        ("http = [{ host = \"a.example.com\", methods = [\"PUT\"] }]", false),
        ("http = [{ host = \"a.example.com\", methods = [\"GET\"], ports = [80] }]", false),
        ("http = [{ host = \"a.example.com\", methods = [\"GET\"], private = true }]", false),
        ("kv = { quota = \"1MiB\" }", true),
        ("kv = { quota = \"2MiB\" }", false),
        ("events = { kinds = [\"deployment.failed\"] }", true),
        ("events = { kinds = [\"deployment.*\"] }", true),
        ("events = { kinds = [\"app.*\"] }", false),
        ("events = { kinds = [\"app.created\"], blocking = true }", false),
        ("secrets = [{ name = \"a\" }]", true),
        ("secrets = [{ name = \"b\" }]", false),
    ] {
        let asked = set(asked);
        assert_eq!(granted.covers(&asked), covered, "{asked:?}");
        assert_eq!(granted.beyond(&asked).is_empty(), covered, "{asked:?}");
    }
}

#[test]
fn a_use_of_a_secret_is_no_right_to_read_it() {
    let granted = set("secrets = [{ name = \"a\" }]");
    assert!(granted.may_use_secret("a"));
    assert!(!granted.may_read_secret("a"));
    assert!(!granted.covers(&set("secrets-read = [{ name = \"a\" }]")));
}

#[test]
fn a_request_needs_host_method_and_port_of_one_entry() {
    let granted = set("http = [{ host = \"a.example\", methods = [\"GET\"], ports = [80] },
                 { host = \"b.example\", methods = [\"POST\"], private = true }]");
    assert_eq!(granted.http_allows("GET", "a.example", 80), Ok(false));
    assert_eq!(granted.http_allows("POST", "b.example", 443), Ok(true));
    for (method, host, port) in
        [("POST", "a.example", 80), ("GET", "a.example", 443), ("GET", "b.example", 443)]
    {
        let denied = granted.http_allows(method, host, port).unwrap_err();
        assert_eq!(denied.to_string(), format!("{method} {host}:{port} was not granted"));
    }
}

#[test]
fn reasons_grant_nothing() {
    let with =
        set("clock = { why = \"x\" }\nsecrets = [{ name = \"b\", why = \"y\" }, { name = \"a\" }]");
    let without = set("clock = {}\nsecrets = [{ name = \"a\" }, { name = \"b\" }]");
    assert_eq!(with.canonical(), without.canonical());
    assert_ne!(with.canonical(), set("clock = {}").canonical());
}

#[test]
fn hosts_are_names_patterns_or_addresses() {
    for good in ["a.example", "*.a.example", "*", "10.0.0.1", "localhost"] {
        assert!(good.parse::<HostPattern>().is_ok(), "{good}");
    }
    for bad in
        ["", "A.example", "a*.example", "*.*", "http://a.example", "a.example:80", "*a.example"]
    {
        assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
    }
}

#[test]
fn an_update_that_asks_for_no_more_needs_no_new_grant() {
    let asked = set("clock = {}\nkv = { quota = \"2MiB\" }");
    let grant = Grant { asked: asked.clone(), granted: set("clock = {}") };
    assert!(grant.still_covers(&asked));
    assert!(grant.still_covers(&set("kv = { quota = \"1MiB\" }")));
    assert!(!grant.still_covers(&set("metrics = {}")));
}
