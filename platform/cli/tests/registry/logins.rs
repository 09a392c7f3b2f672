//! Registries that want a login, and registries with certificates of their own.

use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::server::{Options, Registry};
use crate::{Person, component};

/// `ada` with the password `swordfish`.
const LOGINS: &str = "ada:$2b$04$abcdefghijklmnopqrstuugIEnm3ZbWF6xb2GcoE3L1CoGJFMKtu.\n";
/// `ada:swordfish` and `ada:herring`, as `docker login` keeps them.
const RIGHT: &str = "YWRhOnN3b3JkZmlzaA==";
const WRONG: &str = "YWRhOmhlcnJpbmc=";

fn with_logins() -> Registry {
    Registry::with(&Options { logins: Some(LOGINS), ..Options::default() })
}

fn kept(registry: &Registry, login: &str) -> String {
    serde_json::json!({ "auths": { registry.host.clone(): { "auth": login } } }).to_string()
}

fn is_secret(text: &str) -> bool {
    ["swordfish", "herring", RIGHT, WRONG].iter().any(|secret| text.contains(secret))
}

#[test]
fn a_registry_that_wants_a_login_takes_the_right_one_alone() {
    let registry = with_logins();
    let tag = registry.at("acme/notify:1");
    let nobody = Person::new();
    nobody.write("it.wasm", component("0.1.0"));
    let push = ["ext", "push", "it.wasm", &tag];
    for arguments in [&push[..], &["ext", "pull", &tag]] {
        let said = nobody.berth(arguments).refused(1);
        assert!(said.contains("wants a login, and none is kept for it"), "{said}");
        assert!(said.contains(&format!("docker login {}", registry.host)), "{said}");
    }

    let wrong = Person::new();
    wrong.write("it.wasm", component("0.1.0"));
    wrong.write(".docker/config.json", kept(&registry, WRONG));
    for arguments in [&push[..], &["ext", "pull", &tag]] {
        let said = wrong.berth(arguments).refused(1);
        assert!(said.contains("refuses the login that is kept for it"), "{said}");
        assert!(!is_secret(&said), "{said}");
    }

    // Wherever a login may lie.
    for place in [".docker/config.json", ".config/containers/auth.json"] {
        let right = Person::new();
        right.write("it.wasm", component("0.1.0"));
        right.write(place, kept(&registry, RIGHT));
        let pushed = right.berth(&push);
        assert!(!is_secret(&pushed.out) && !is_secret(&pushed.err));
        pushed.good();
        right.berth(&["ext", "pull", &tag, "-o", "back.wasm"]).good();
    }
    let elsewhere = Person::new();
    let folder = elsewhere.write("logins/config.json", kept(&registry, RIGHT));
    let elsewhere = elsewhere.set("DOCKER_CONFIG", folder.parent().unwrap());
    elsewhere.berth(&["ext", "pull", &tag]).good();
}

#[test]
fn a_credential_helper_is_asked_and_what_it_prints_is_never_shown() {
    let registry = with_logins();
    let tag = registry.at("acme/notify:1");
    let person = Person::new();
    person.write("it.wasm", component("0.1.0"));
    person.write(".docker/config.json", "{\"credsStore\":\"test\"}");
    let helper = |script: &str| {
        let path =
            person.write("docker-credential-test", format!("#!/bin/sh\ncat > asked\n{script}\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let push = ["ext", "push", "it.wasm", &tag];
    helper("echo '{\"Username\":\"ada\",\"Secret\":\"swordfish\"}'");
    person.berth(&push).good();
    assert_eq!(std::fs::read_to_string(person.path("asked")).unwrap(), registry.host);
    helper("echo credentials not found in native keychain; exit 1");
    let said = person.berth(&push).refused(1);
    assert!(said.contains("wants a login, and none is kept for it"), "{said}");
    for (script, why) in [
        ("echo swordfish; echo swordfish >&2; exit 1", "docker-credential-test failed"),
        ("echo swordfish", "answered something else than a login"),
    ] {
        helper(script);
        let said = person.berth(&push).refused(1);
        assert!(said.contains(why) && !is_secret(&said), "{said}");
    }
    std::fs::remove_file(person.path("docker-credential-test")).unwrap();
    let said = person.berth(&push).refused(1);
    assert!(said.contains("cannot be run") && said.contains(".docker/config.json"), "{said}");
    for damaged in ["{ \"auths\": swordfish".to_owned(), kept(&registry, "swordfish!")] {
        person.write(".docker/config.json", &damaged);
        let said = person.berth(&push).refused(1);
        assert!(said.contains("config.json") && !is_secret(&said), "{damaged}: {said}");
    }
}

#[test]
fn a_registry_with_a_certificate_is_trusted_when_its_authority_is() {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority of a test");
    let trusted = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap().pem();
    let tls = Some((own.as_str(), key.serialize_pem()));
    let tls = tls.as_ref().map(|(own, key)| (*own, key.as_str()));
    let registry = Registry::with(&Options { logins: Some(LOGINS), tls });

    let tag = registry.at("acme/notify:1");
    let person = Person::new();
    person.write("it.wasm", component("0.1.0"));
    person.write(".docker/config.json", kept(&registry, RIGHT));
    let said = person.berth(&["ext", "push", "it.wasm", &tag]).refused(1);
    assert!(said.contains(&format!("{} is not trusted", registry.host)), "{said}");
    assert!(said.contains("SSL_CERT_FILE"), "{said}");

    let file = person.write("authority.pem", trusted);
    let person = person.set("SSL_CERT_FILE", file);
    person.berth(&["ext", "push", "it.wasm", &tag]).good();
    person.berth(&["ext", "pull", &tag, "-o", "back.wasm"]).good();
    assert!(std::fs::read(person.path("back.wasm")).unwrap() == component("0.1.0"));
}
