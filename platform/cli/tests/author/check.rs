//! `berth ext check` refuses what a platform would refuse, and says what and where.

use std::fs::File;

use crate::project::{Project, rust_target};

/// A custom section at the end of a component (WebAssembly core specification, 5.5.3).
fn with_section(component: &[u8], name: &str, content: &str) -> Vec<u8> {
    fn leb128(out: &mut Vec<u8>, mut value: usize) {
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    }
    let mut body = Vec::new();
    leb128(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content.as_bytes());
    let mut whole = component.to_vec();
    whole.push(0);
    leb128(&mut whole, body.len());
    whole.extend_from_slice(&body);
    whole
}

/// What cargo made, before the manifest was put into it.
fn bare(name: &str) -> Vec<u8> {
    let file = format!("wasm32-wasip2/release/{}.wasm", name.replace('-', "_"));
    std::fs::read(rust_target().join(file)).unwrap()
}

/// Refused with the path of the component.
#[track_caller]
fn refusal(project: &Project) -> String {
    let said = project.run(&["ext", "check"]).refused();
    assert!(said.contains(&project.component().display().to_string()), "{said}");
    said
}

#[test]
fn a_component_is_held_to_its_manifest() {
    let project = Project::built("held", "hook", "rust");
    let good = std::fs::read(project.component()).unwrap();
    let manifest = project.read("extension.toml");

    // The manifest that is reviewed is the one inside.
    project.edit("extension.toml", "version = \"0.1.0\"", "version = \"0.1.1\"");
    let said = project.run(&["ext", "check"]).refused();
    assert!(said.contains("extension.toml changed since the component was built"), "{said}");

    // An import that it does not name.
    let (before, rest) = manifest.split_once("http = ").unwrap();
    let without = format!("{before}{}", rest.split_once('\n').unwrap().1);
    project.write("extension.toml", &without);
    let beyond = with_section(&bare("held"), "berth:extension", &without);
    std::fs::write(project.component(), beyond).unwrap();
    let said = refusal(&project);
    assert!(said.contains("imports berth:http-out/http-out@0.1.0"), "{said}");
    assert!(said.contains("does not name the capability `http`"), "{said}");

    // Interfaces of another version, of the host and of the kind.
    project.write("extension.toml", &manifest);
    for (of, advice) in [
        ("berth:http-out/http-out@0.", "is of another version of Berth"),
        ("berth:hook/handler@0.", "does not export berth:hook/handler@0.1.0"),
    ] {
        let ours = format!("{of}1.0");
        let at: Vec<usize> = good
            .windows(ours.len())
            .enumerate()
            .filter(|(_, bytes)| *bytes == ours.as_bytes())
            .map(|(at, _)| at + of.len())
            .collect();
        assert!(!at.is_empty(), "{ours}");
        let mut other = good.clone();
        at.into_iter().for_each(|at| other[at] = b'2');
        std::fs::write(project.component(), other).unwrap();
        let said = refusal(&project);
        assert!(said.contains(&format!("{of}2.0")) && said.contains(advice), "{said}");
    }

    // No manifest at all, and no component.
    std::fs::write(project.component(), bare("held")).unwrap();
    assert!(refusal(&project).contains("the component has no manifest"));
    std::fs::write(project.component(), "text").unwrap();
    assert!(refusal(&project).contains("this is not a WebAssembly file"));

    // And as it was.
    std::fs::write(project.component(), good).unwrap();
    project.run(&["ext", "check"]).good();
}

#[test]
fn a_component_that_is_too_large_is_refused() {
    let project = Project::new("large", "policy", "rust");
    // A hole in a file takes no room.
    File::create(project.component()).unwrap().set_len(64 * 1024 * 1024 + 1).unwrap();
    let said = refusal(&project);
    assert!(said.contains("is larger than 64 MiB, which is the limit"), "{said}");
}

#[test]
fn a_manifest_for_another_version_is_refused_with_its_line() {
    let project = Project::new("version", "policy", "rust");
    project.edit("extension.toml", "berth:policy@0.1.0", "berth:policy@0.2.0");
    let said = project.run(&["ext", "build"]).refused();
    let place = format!("{}:5: ", project.path("extension.toml").display());
    assert!(said.contains("extension.toml:5: extension.api: "), "{place}: {said}");
    assert!(said.contains("write berth:policy@0.1.0"), "{said}");
}
