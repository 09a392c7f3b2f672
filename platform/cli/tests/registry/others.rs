//! Tools that were not written here, at the other end of the registry.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::server::Registry;
use crate::{Person, component};

fn skopeo(person: &Person, arguments: &[&str]) -> String {
    person.run("skopeo", &[&["--insecure-policy"], arguments].concat()).good()
}

fn raw(person: &Person, reference: &str, config: bool) -> Value {
    let place = format!("docker://{reference}");
    let options: &[&str] = if config { &["--config"] } else { &[] };
    let all = [&["inspect", "--tls-verify=false", "--raw"], options, &[&place]].concat();
    serde_json::from_str(&skopeo(person, &all)).unwrap()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// An OCI image layout in a folder, as tools make it, with one image in it; its blobs are given
/// with their types, the config first.
fn layout(person: &Person, config: (&str, &[u8]), layers: &[(&str, &[u8])]) -> String {
    let put = |(kind, bytes): (&str, &[u8])| {
        let digest = digest(bytes);
        person.write(&format!("layout/blobs/{}", digest.replace(':', "/")), bytes);
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    };
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": put(config),
        "layers": layers.iter().map(|layer| put(*layer)).collect::<Vec<_>>(),
    });
    let mut entry = put((kind, manifest.to_string().as_bytes()));
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "it" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    person.write("layout/index.json", index.to_string());
    person.write("layout/oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string());
    format!("oci:{}:it", person.path("layout").display())
}

#[test]
fn what_is_pushed_has_the_form_that_tools_of_the_field_read() {
    let (registry, person) = (Registry::start(), Person::new());
    let bytes = component("0.1.0");
    person.write("it.wasm", &bytes);
    let tag = registry.at("acme/notify:1");
    let pushed = person.berth(&["ext", "push", "it.wasm", &tag, "--json"]).json();

    // The Wasm OCI artifact layout, field by field.
    let manifest = raw(&person, &tag, false);
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    let layer =
        json!({ "mediaType": "application/wasm", "digest": digest(&bytes), "size": bytes.len() });
    assert_eq!(manifest["layers"], json!([layer]));
    assert_eq!(pushed["component"], layer["digest"]);
    let noted = &manifest["annotations"];
    assert_eq!(noted["org.opencontainers.image.title"], "acme.notify");
    assert_eq!(noted["org.opencontainers.image.version"], "0.1.0");
    let config = raw(&person, &tag, true);
    assert_eq!((&config["architecture"], &config["os"]), (&json!("wasm"), &json!("wasip2")));
    assert_eq!(config["layerDigests"], json!([layer["digest"]]));
    assert_eq!(config["component"], json!({ "exports": [], "imports": [] }));
    assert!(config["created"].is_string(), "{config}");

    // A mirror has the same under the same digest.
    let mirror = registry.at("mirror/notify:1");
    let (from, to) = (format!("docker://{tag}"), format!("docker://{mirror}"));
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&person, &[&["copy", "--preserve-digests"], &plain[..], &[&from, &to]].concat());
    let pulled = person.berth(&["ext", "pull", &mirror, "-o", "back.wasm", "--json"]).json();
    let at = |told: &Value| told["place"].as_str().unwrap().split_once('@').unwrap().1.to_owned();
    assert_eq!(at(&pulled), at(&pushed));
    assert!(std::fs::read(person.path("back.wasm")).unwrap() == bytes);
}

#[test]
fn what_another_tool_pushed_reads_the_same() {
    let (registry, person) = (Registry::start(), Person::new());
    let bytes = component("0.1.0");
    // As the reference tool of Wasm packages writes it.
    let config = json!({
        "created": "2026-01-02T03:04:05.678901234Z",
        "author": null,
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [digest(&bytes)],
        "component": { "exports": ["berth:hook/hook@0.1.0"], "imports": [], "target": null },
    })
    .to_string();
    let image = layout(
        &person,
        ("application/vnd.wasm.config.v0+json", config.as_bytes()),
        &[("application/wasm", &bytes)],
    );
    let tag = registry.at("others/notify:1");
    let to = format!("docker://{tag}");
    skopeo(&person, &["copy", "--preserve-digests", "--dest-tls-verify=false", &image, &to]);
    let pulled = person.berth(&["ext", "pull", &tag, "-o", "it.wasm", "--json"]).json();
    assert_eq!(pulled["component"], digest(&bytes));
    assert!(std::fs::read(person.path("it.wasm")).unwrap() == bytes);
}

#[test]
fn an_image_that_is_no_extension_is_refused() {
    let (registry, person) = (Registry::start(), Person::new());
    let image = "application/vnd.oci.image.config.v1+json";
    let wasm = "application/vnd.wasm.config.v0+json";
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let of_image = json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [digest(b"a tar")] } })
    .to_string();
    for (name, config, layers, why) in [
        ("image", (image, of_image.as_str()), &[(tar, &b"a tar"[..])][..], "not application/wasm"),
        (
            "two",
            (wasm, "{}"),
            &[("application/wasm", &b"one"[..]), ("application/wasm", b"two")],
            "it has 2 layers, not one",
        ),
        ("text", (wasm, "{}"), &[("application/wasm", b"a text")], "it is not WebAssembly"),
        ("bare", (wasm, "{}"), &[("application/wasm", b"\0asm\x0d\0\x01\0")], "it has no manifest"),
    ] {
        let from = layout(&person, (config.0, config.1.as_bytes()), layers);
        let reference = registry.at(&format!("others/{name}:1"));
        let to = format!("docker://{reference}");
        skopeo(&person, &["copy", "--preserve-digests", "--dest-tls-verify=false", &from, &to]);
        let said = person.berth(&["ext", "pull", &reference, "-o", "it.wasm"]).refused(1);
        assert!(said.contains(&format!("{reference} is no extension: ")), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!person.path("it.wasm").exists(), "nothing is kept of it");
    }
}
