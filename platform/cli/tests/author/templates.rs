//! Every template, from nothing to a file for others.
//!
//! Compiling a component that holds an interpreter takes half a minute, so of JavaScript and Python
//! two kinds go all the way: one that asks servers, in an instance of its own, and one that is kept
//! warm within the tightest limits. The others are built, for which both languages' tools load the
//! source and look for what it exports.

use crate::project::Project;

/// What `berth ext new` makes is green as it is.
#[track_caller]
fn goes_all_the_way(name: &'static str, kind: &'static str, language: &str) {
    let project = Project::built(name, kind, language);
    let checked = project.run(&["ext", "check"]).good();
    assert!(checked.contains(&format!("local.{name} 0.1.0 ({kind})")), "{checked}");
    let tested = project.run(&["ext", "test"]).good();
    assert!(tested.contains("ok     first: used "), "{tested}");
    assert!(tested.contains("1 of 1 cases passed"), "{tested}");
    let built = std::fs::read(project.component()).unwrap();
    project.run(&["ext", "pack"]).good();
    let packed = std::fs::read(project.path(&format!("local.{name}-0.1.0.wasm"))).unwrap();
    assert!(packed == built, "what was packed is not what was tested");
}

/// What `berth ext new` makes can be built.
#[track_caller]
fn builds(name: &'static str, kind: &'static str, language: &str) {
    let project = Project::built(name, kind, language);
    let component = std::fs::read(project.component()).unwrap();
    let manifest = project.read("extension.toml");
    let end = &component[component.len() - manifest.len()..];
    assert!(end == manifest.as_bytes(), "the manifest is not in the component");
}

macro_rules! templates {
    ($($test:ident: $what:ident $kind:literal, $language:literal;)*) => {
        $(#[test]
        fn $test() {
            $what(concat!($kind, "-", $language), $kind, $language);
        })*
    };
}

templates! {
    a_hook_in_rust_goes_all_the_way: goes_all_the_way "hook", "rust";
    a_policy_in_rust_goes_all_the_way: goes_all_the_way "policy", "rust";
    a_middleware_in_rust_goes_all_the_way: goes_all_the_way "middleware", "rust";
    a_log_processor_in_rust_goes_all_the_way: goes_all_the_way "log-processor", "rust";
    a_console_page_in_rust_goes_all_the_way: goes_all_the_way "console", "rust";
    a_hook_in_javascript_goes_all_the_way: goes_all_the_way "hook", "js";
    a_middleware_in_javascript_goes_all_the_way: goes_all_the_way "middleware", "js";
    a_policy_in_javascript_builds: builds "policy", "js";
    a_log_processor_in_javascript_builds: builds "log-processor", "js";
    a_console_page_in_javascript_builds: builds "console", "js";
    a_hook_in_python_goes_all_the_way: goes_all_the_way "hook", "python";
    a_middleware_in_python_goes_all_the_way: goes_all_the_way "middleware", "python";
    a_policy_in_python_builds: builds "policy", "python";
    a_log_processor_in_python_builds: builds "log-processor", "python";
    a_console_page_in_python_builds: builds "console", "python";
}
