//! Files that are not the extension that they should be, or that no engine of ours runs. They are
//! refused before anything of them runs, by a word that their author understands. What lies in the
//! cache as it should not (`file/changed-code`, `file/code-of-another`) is in `hosts/aot.rs`.

use berth_extensions::inspect::NotAComponent;
use berth_extensions::{CompileError, EngineKind, ExtensionRefusal, check_extension, compile};
use wasm_encoder::{
    Component, ComponentExportKind, ComponentExportSection, ComponentImportSection,
    ComponentSection, ComponentSectionId, ComponentTypeRef, CustomSection, InstanceSection, Module,
    RawSection,
};

use super::beside::{attacked_component, within};
use super::build::{framed, guest};

const MANIFEST: &str = "[extension]\nid = \"test.guest\"\nversion = \"0.1.0\"\nkind = \"hook\"\n\
                        api = \"berth:hook@0.1.0\"\n";

fn add_section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    let section = CustomSection { name: name.into(), data: data.into() };
    ComponentSection::append_to_component(&section, component);
}

fn add_manifest(component: &mut Vec<u8>, manifest: &[u8]) {
    add_section(component, "berth:extension", manifest);
}

/// A hook that would be accepted.
fn good() -> Vec<u8> {
    let mut component = guest("hook/gives-up");
    add_manifest(&mut component, MANIFEST.as_bytes());
    check_extension(&component).unwrap();
    component
}

fn compiled(component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let mut code = Vec::new();
    compile(EngineKind::Extensions, component, &mut code).map(|()| code)
}

/// The words of a refusal, which are short and draw nothing.
#[track_caller]
fn refusal(component: &[u8]) -> String {
    let refused = check_extension(component).unwrap_err().to_string();
    assert!(refused.len() < 8_192, "{} bytes", refused.len());
    assert!(!refused.contains(char::is_control), "{refused:?}");
    refused
}

#[test]
fn what_is_no_component_is_refused() {
    let module = wat::parse_str("(module)").unwrap();
    let code = compiled(&good()).unwrap();
    for (name, bytes, expected) in [
        ("file/core-module", module.as_slice(), NotAComponent::CoreModule),
        ("file/script", b"#!/bin/sh\nrm -rf /\n", NotAComponent::NotWasm),
        ("file/nothing", b"", NotAComponent::NotWasm),
        ("file/compiled-code", &code, NotAComponent::NotWasm),
    ] {
        let refused = ExtensionRefusal::NotAComponent(expected);
        assert_eq!(check_extension(bytes), Err(refused), "{name}");
        assert!(matches!(compiled(bytes), Err(CompileError::NotAComponent(_))), "{name}");
    }
}

/// Rows `file/cut` and `file/changed`.
#[test]
fn a_damaged_component_is_refused_or_another_one_and_nothing_panics() {
    let whole = good();
    for length in (0..whole.len()).step_by(7) {
        let cut = &whole[..length];
        assert!(check_extension(cut).is_err(), "{length} of {}", whole.len());
        if length % 49 == 0 {
            // Without its manifest it is a whole component still.
            let _ = compiled(cut);
        }
    }
    let mut changed = whole.clone();
    for at in 8..whole.len() {
        changed[at] ^= 0xff;
        let _ = check_extension(&changed);
        if at % 23 == 0 {
            let _ = compiled(&changed);
        }
        changed[at] = whole[at];
    }
}

#[test]
fn a_component_has_one_manifest_and_it_is_its_own() {
    let bare = guest("hook/gives-up");
    assert_eq!(check_extension(&bare), Err(ExtensionRefusal::NoManifest), "file/no-manifest");

    let mut twice = good();
    add_manifest(&mut twice, MANIFEST.as_bytes());
    assert!(refusal(&twice).contains("more than one"), "file/two-manifests");

    // What was reviewed is what the outer one says.
    let mut outer = Component::new();
    outer.section(&RawSection { id: ComponentSectionId::Component.into(), data: &good() });
    let outer = outer.finish();
    assert_eq!(check_extension(&outer), Err(ExtensionRefusal::NoManifest), "file/inner-manifest");
}

#[test]
fn a_manifest_that_is_none_is_refused() {
    let long = format!("{MANIFEST}# {}", "a".repeat(64 * 1024));
    let drawing = format!("{MANIFEST}description = \"\\u001b[2K\\rharmless\"\n");
    let unknown = format!("{MANIFEST}[capabilities]\nroot = {{}}\n");
    let escape = format!("{MANIFEST}[capabilities]\n\"\\u001b[2J\" = {{}}\n");
    for (name, manifest, why) in [
        ("file/manifest-not-text", b"\xff\xfe".as_slice(), "not UTF-8"),
        ("file/manifest-too-long", long.as_bytes(), "longer than 64 KiB"),
        ("file/manifest-that-draws", drawing.as_bytes(), "plain text"),
        ("file/unknown-capability", unknown.as_bytes(), "unknown field `root`"),
        ("file/capability-that-draws", escape.as_bytes(), "unknown field"),
    ] {
        let mut component = guest("hook/gives-up");
        add_manifest(&mut component, manifest);
        let refused = refusal(&component);
        assert!(refused.contains(why), "{name}: {refused}");
    }
}

#[test]
fn a_component_that_is_not_of_its_kind_is_refused() {
    let mut component = guest("hook/gives-up");
    add_manifest(&mut component, MANIFEST.replace("hook", "policy").as_bytes());
    let refused = refusal(&component);
    assert!(refused.contains("does not export berth:policy/judge@0.1.0"), "file/another-kind");
}

/// A component that imports and exports instances of these names, with a manifest.
fn outside(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let mut component = Component::new();
    let mut types = wasm_encoder::ComponentTypeSection::new();
    types.instance(&wasm_encoder::InstanceType::new());
    component.section(&types);
    let mut section = ComponentImportSection::new();
    for name in imports {
        section.import(*name, ComponentTypeRef::Instance(0));
    }
    component.section(&section);
    let mut section = ComponentExportSection::new();
    for name in exports {
        section.export(*name, ComponentExportKind::Instance, 0, None);
    }
    component.section(&section);
    let mut component = component.finish();
    add_manifest(&mut component, MANIFEST.as_bytes());
    component
}

#[test]
fn imports_that_extensions_do_not_have_are_refused() {
    for (name, import) in [
        ("file/imports-wasi-http", "wasi:http/outgoing-handler@0.2.6"),
        ("file/imports-a-later-wasi", "wasi:cli/stdout@0.3.0"),
        ("file/imports-a-later-berth", "berth:kv/kv@0.2.0"),
        ("file/imports-the-unknown", "evil:kernel/memory@1.0.0"),
        ("file/imports-another-world", "berth:buildpack/tools@0.1.0"),
    ] {
        let refused = refusal(&outside(&[import], &["berth:hook/handler@0.1.0"]));
        assert!(refused.contains(import), "{name}: {refused}");
    }
}

#[test]
fn names_are_shown_as_they_are_and_not_all_of_them() {
    let drawing = "evil\u{1b}[2J\u{7}\r\n\u{202e}kv";
    refusal(&outside(&[drawing], &["berth:hook/handler@0.1.0"]));
    refusal(&outside(&[], &[drawing]));
    let long = "a".repeat(100_000);
    refusal(&outside(&[&long], &["berth:hook/handler@0.1.0"]));
    let many: Vec<String> = (0..50_000).map(|number| format!("a{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = refusal(&outside(&[], &many));
    assert!(refused.contains("49980 more"), "file/many-names: {refused}");

    let mut broken = outside(&["evil-name"], &["berth:hook/handler@0.1.0"]);
    let at = broken.windows(9).position(|bytes| bytes == b"evil-name").unwrap();
    broken[at] = 0xff;
    let refused = refusal(&broken);
    assert!(refused.contains("damaged"), "file/name-not-text: {refused}");
}

#[test]
fn what_the_engine_has_switched_off_does_not_compile() {
    for (name, text) in [
        ("file/garbage-collection", "(component (core module (type (struct))))"),
        ("file/threads", "(component (core module (memory 1 2 shared)))"),
        ("file/memory64", "(component (core module (memory i64 1)))"),
        ("file/exceptions", "(component (core module (tag)))"),
        (
            "file/relaxed-simd",
            "(component (core module (func (param v128) (result v128)
            local.get 0 local.get 0 local.get 0 f32x4.relaxed_madd)))",
        ),
        ("file/component-async", "(component (type (future)))"),
        ("file/streams", "(component (type (stream u8)))"),
        ("file/error-context", "(component (type error-context))"),
        ("file/stack-switching", "(component (core module (type $f (func)) (type (cont $f))))"),
        ("file/custom-page-sizes", "(component (core module (memory 1 (pagesize 1))))"),
        (
            "file/wide-arithmetic",
            "(component (core module (func (param i64) (result i64 i64)
            local.get 0 local.get 0 local.get 0 local.get 0 i64.add128)))",
        ),
    ] {
        let component = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let refused = compiled(&component).err();
        assert!(matches!(refused, Some(CompileError::Invalid(_))), "{name}: {refused:?}");
    }
}

#[test]
fn a_component_that_is_too_large_is_not_read_to_its_end() {
    let head = std::io::Cursor::new(b"\0asm\x0d\0\x01\0".as_slice());
    let endless = std::io::Read::chain(head, std::io::repeat(0));
    let refused = compile(EngineKind::Extensions, endless, Vec::new());
    assert!(matches!(refused, Err(CompileError::TooLarge { .. })), "file/too-large: {refused:?}");
}

/// The limit of the validator, which is there for its own stack.
#[test]
fn components_in_components_in_components_are_refused_or_run() {
    let mut component = good();
    for _ in 0..2_000 {
        let mut outer = Component::new();
        outer.section(&RawSection { id: ComponentSectionId::Component.into(), data: &component });
        component = outer.finish();
    }
    assert_eq!(check_extension(&component), Err(ExtensionRefusal::NoManifest), "file/deep");
    let _ = compiled(&component);
}

/// A good hook with as many more core instances, all of them of an empty module.
fn with_instances(count: usize) -> Vec<u8> {
    let mut component = framed("hook", "hook", "(func $attack (result i32) (i32.const 16))");
    let modules = wasmparser::Parser::new(0)
        .parse_all(&component)
        .filter(|part| matches!(part, Ok(wasmparser::Payload::ModuleSection { .. })));
    let empty = u32::try_from(modules.count()).unwrap();
    let mut instances = InstanceSection::new();
    for _ in 0..count {
        instances.instantiate::<[(&str, wasm_encoder::ModuleArg); 0], &str>(empty, []);
    }
    wasm_encoder::ModuleSection(&Module::new()).append_to_component(&mut component);
    instances.append_to_component(&mut component);
    component
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_counted() {
    let few = within("few", attacked_component("hook", with_instances(40))).await;
    few.ended.result.unwrap();
    let many = attacked_component("hook", with_instances(70)).await.ended;
    assert_eq!(many.fault(), berth_extensions::Fault::Trap, "file/many-instances");
    assert!(many.message().contains("instance count too high"), "{many:?}");
}
