//! Sources that do not compile: the author sees what the compiler says, and nothing else.

use crate::project::Project;

#[test]
fn a_mistake_in_rust_is_told_in_the_compilers_words_alone() {
    let project = Project::new("mistake-rust", "policy", "rust");
    project.edit("src/lib.rs", "struct Extension;", "struct Extension");
    let said = project.run(&["ext", "build"]).refused();
    let told = said.split_once("Compiling with cargo failed (exit code 101)\n").unwrap().1;
    assert!(told.starts_with("error: expected "), "{said}");
    assert!(told.contains("src/lib.rs:"), "{said}");
    assert!(!said.contains("\"reason\"") && !said.contains("Compiling wit-bindgen"), "{said}");
    assert!(!project.component().exists());
}

#[test]
fn a_warning_of_the_compiler_is_shown_when_it_builds() {
    let project = Project::new("warning-rust", "policy", "rust");
    project.edit("src/lib.rs", "struct Extension;", "fn unused() {}\nstruct Extension;");
    let built = project.run(&["ext", "build"]);
    assert!(built.err.contains("warning: function `unused` is never used"), "{}", built.err);
    built.good();
}

#[test]
fn a_mistake_in_javascript_is_told_with_its_place() {
    let project = Project::new("mistake-js", "policy", "js");
    project.edit("extension.js", "export const judge = {", "export const judge = {{");
    let said = project.run(&["ext", "build"]).refused();
    assert!(said.contains("Reading extension.js with node failed (exit code 1)\n"), "{said}");
    let line = 1 + project.read("extension.js").split("{{").next().unwrap().matches('\n').count();
    assert!(said.contains(&format!("extension.js:{line}\nexport const judge = {{{{\n")), "{said}");
    assert!(said.contains("SyntaxError: Unexpected token '{'"), "{said}");
    assert!(!project.component().exists());
}

#[test]
fn a_mistake_in_python_is_told_with_its_place() {
    let project = Project::new("mistake-python", "policy", "python");
    project.edit("extension.py", "class Judge(exports.Judge):", "class Judge(exports.Judge)");
    let said = project.run(&["ext", "build"]).refused();
    assert!(said.contains("Making a component with componentize-py failed"), "{said}");
    assert!(said.contains("extension.py"), "{said}");
    assert!(said.contains("SyntaxError"), "{said}");
    assert!(!project.component().exists());
}
