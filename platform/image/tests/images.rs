//! Images written, read back, exported, and opened by tools that no one here wrote.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use berth_blobs::BlobStore;
use berth_blobs::tar::{Attributes, Rules, Tree};
use berth_image::{ImageError, LABEL_MANIFEST, load, to_folder, to_tar, write};
use berth_model::*;
use serde_json::Value;

struct Fixture {
    _folder: tempfile::TempDir,
    blobs: BlobStore,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        Self { _folder: folder, blobs }
    }

    fn layer(&self, name: &str, files: &[(&str, &str)]) -> LayerRef {
        let mut tree = Tree::new();
        for (path, text) in files {
            tree.file(
                path.as_bytes(),
                Attributes::EXECUTABLE,
                text.len() as u64,
                text.as_bytes().to_vec(),
            )
            .unwrap();
        }
        let (tar, _) =
            tree.write(Vec::new(), Rules::App, |content| Ok(Cursor::new(content))).unwrap();
        let (diff_id, bytes) = self.blobs.put(tar.as_slice(), 1 << 20).unwrap();
        LayerRef { diff_id, bytes, name: name.to_owned() }
    }

    fn output(&self) -> BuildOutput {
        let web = Process {
            command: vec!["node".to_owned(), "server.js".to_owned()],
            working_dir: "/workspace".to_owned(),
            check: None,
        };
        BuildOutput {
            layers: vec![
                self.layer("stack", &[("etc/os-release", "ID=debian\n")]),
                self.layer("app", &[("workspace/server.js", "1\n")]),
            ],
            manifest: Manifest {
                processes: BTreeMap::from([("web".parse().unwrap(), web)]),
                release: None,
                runtime: Runtime::Container,
                formation: BTreeMap::new(),
                wasm: berth_model::manifest::WasmSettings::default(),
            },
            env: BTreeMap::from([
                ("PATH".to_owned(), "/bin".to_owned()),
                ("A".to_owned(), "x=y".to_owned()),
            ]),
            labels: BTreeMap::from([("io.buildpacks.stack.id".to_owned(), "debian-12".to_owned())]),
            created_at_s: 1_700_000_000,
        }
    }

    fn json(&self, digest: &Digest) -> Value {
        serde_json::from_slice(&self.blobs.read(digest, 1 << 20).unwrap()).unwrap()
    }
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let done = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_same_output_is_the_same_image_in_any_store() {
    let (one, two) = (Fixture::new(), Fixture::new());
    let digest = write(&one.blobs, &one.output()).unwrap();
    assert_eq!(digest, write(&one.blobs, &one.output()).unwrap());
    assert_eq!(digest, write(&two.blobs, &two.output()).unwrap());
    let later = BuildOutput { created_at_s: 1_700_000_001, ..one.output() };
    assert_ne!(digest, write(&one.blobs, &later).unwrap());
    // The bytes themselves: a change here changes the digest of every image that exists.
    let manifest = String::from_utf8(one.blobs.read(&digest, 1 << 20).unwrap()).unwrap();
    assert!(
        manifest.starts_with(r#"{"config":{"digest":"sha256:"#)
            && manifest.ends_with(
                r#""mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}"#
            ),
        "{manifest}"
    );
}

#[test]
fn an_image_reads_back_as_deploy_needs_it() {
    let fixture = Fixture::new();
    let output = fixture.output();
    let digest = write(&fixture.blobs, &output).unwrap();
    let image = load(&fixture.blobs, digest).unwrap();
    assert_eq!(
        (image.digest, &image.layers, &image.env, &image.manifest),
        (digest, &output.layers, &output.env, &output.manifest)
    );
    let config =
        fixture.json(&fixture.json(&digest)["config"]["digest"].as_str().unwrap().parse().unwrap());
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["node", "server.js"]));
    assert_eq!(config["config"]["User"], "1000:1000");
    assert_eq!(config["config"]["Env"], serde_json::json!(["A=x=y", "PATH=/bin"]));
}

#[test]
fn a_wasm_app_is_an_artifact_whose_only_layer_is_the_component() {
    let fixture = Fixture::new();
    let (component, _) = fixture.blobs.put(b"\0asm-component".as_slice(), 100).unwrap();
    let runtime = Runtime::Wasm { component };
    let output = BuildOutput {
        layers: Vec::new(),
        manifest: Manifest { runtime: runtime.clone(), ..fixture.output().manifest },
        ..fixture.output()
    };
    let digest = write(&fixture.blobs, &output).unwrap();
    let manifest = fixture.json(&digest);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"][0]["digest"], component.to_string());
    let image = load(&fixture.blobs, digest).unwrap();
    assert_eq!((image.layers.len(), &image.manifest.runtime), (0, &runtime));
}

#[test]
fn what_cannot_be_an_image_is_refused() {
    let fixture = Fixture::new();
    let none = BuildOutput { layers: Vec::new(), ..fixture.output() };
    assert!(matches!(write(&fixture.blobs, &none), Err(ImageError::LayerCount(0))));
    let many =
        BuildOutput { layers: vec![fixture.layer("x", &[("a", "")]); 121], ..fixture.output() };
    assert!(matches!(write(&fixture.blobs, &many), Err(ImageError::LayerCount(121))));
    let mut wrong = fixture.output();
    wrong.layers[1].bytes += 1;
    assert!(matches!(write(&fixture.blobs, &wrong), Err(ImageError::LayerSize { .. })));
    wrong.layers[1].diff_id = Digest::from_sha256([1; 32]);
    assert!(matches!(write(&fixture.blobs, &wrong), Err(ImageError::Blobs(_))));
}

#[test]
fn a_foreign_or_mangled_image_is_refused_by_its_name() {
    let fixture = Fixture::new();
    let digest = write(&fixture.blobs, &fixture.output()).unwrap();
    let manifest = fixture.json(&digest);
    let config = fixture.json(&manifest["config"]["digest"].as_str().unwrap().parse().unwrap());
    let put = |value: &Value| fixture.blobs.put(value.to_string().as_bytes(), 1 << 20).unwrap();
    let with_config = |config: &Value| {
        let (digest, size) = put(config);
        let mut manifest = manifest.clone();
        manifest["config"]["digest"] = digest.to_string().into();
        manifest["config"]["size"] = size.into();
        put(&manifest).0
    };
    let mut unlabelled = config.clone();
    unlabelled["config"]["Labels"].as_object_mut().unwrap().remove(LABEL_MANIFEST);
    let mut other_layers = config.clone();
    other_layers["rootfs"]["diff_ids"][0] = Digest::from_sha256([7; 32]).to_string().into();
    let mut other_type = manifest.clone();
    other_type["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
    for bad in [
        with_config(&unlabelled),
        with_config(&other_layers),
        put(&other_type).0,
        put(&config).0,
        put(&serde_json::json!([])).0,
    ] {
        let error = load(&fixture.blobs, bad).unwrap_err();
        assert!(error.to_string().contains(&bad.to_string()), "{error}");
    }
}

#[test]
fn skopeo_and_umoci_open_the_exported_layout() {
    let fixture = Fixture::new();
    let output = fixture.output();
    let digest = write(&fixture.blobs, &output).unwrap();
    let out = tempfile::tempdir().unwrap();
    to_folder(&fixture.blobs, digest, "v1", &out.path().join("layout")).unwrap();

    let inspected: Value =
        serde_json::from_str(&run("skopeo", &["inspect", "oci:layout:v1"], out.path())).unwrap();
    assert_eq!(inspected["Digest"], digest.to_string());
    assert_eq!(inspected["Labels"]["io.buildpacks.stack.id"], "debian-12");
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2);
    run("skopeo", &["copy", "--quiet", "oci:layout:v1", "oci:copied:v1"], out.path());

    run("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"], out.path());
    let unpacked =
        std::fs::read_to_string(out.path().join("bundle/rootfs/workspace/server.js")).unwrap();
    assert_eq!(unpacked, "1\n");
    let spec: Value =
        serde_json::from_slice(&std::fs::read(out.path().join("bundle/config.json")).unwrap())
            .unwrap();
    assert_eq!(spec["process"]["args"], serde_json::json!(["node", "server.js"]));
}

#[test]
fn skopeo_opens_the_exported_tar() {
    let fixture = Fixture::new();
    let digest = write(&fixture.blobs, &fixture.output()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(out.path().join("image.tar")).unwrap();
    to_tar(&fixture.blobs, digest, "v1", std::io::BufWriter::new(file)).unwrap();
    let inspected: Value =
        serde_json::from_str(&run("skopeo", &["inspect", "oci-archive:image.tar:v1"], out.path()))
            .unwrap();
    assert_eq!(inspected["Digest"], digest.to_string());
}
