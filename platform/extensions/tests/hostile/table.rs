//! The table says what is here, all of it and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use super::build::folder;

struct Row {
    name: String,
    test: String,
}

/// The rows of the table in `README.md`: the first column is the guest, the last one the test.
fn rows() -> Vec<Row> {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            assert_eq!(cells.len(), 5, "{line}");
            Row { name: cell(cells[0]), test: cell(cells[4]) }
        })
        .collect()
}

/// The texts of the tests, of this crate and of the one that installs and calls.
fn tests() -> String {
    let mut text = String::new();
    let server = ["../server/tests", "../server/tests/extensions"];
    for folder in ["tests", "tests/hostile", "tests/hosts"].into_iter().chain(server) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

#[test]
fn every_guest_has_a_row_and_every_row_a_guest_and_a_test() {
    let (rows, tests) = (rows(), tests());
    let named: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(named.len(), rows.len(), "a guest has two rows");
    assert!(rows.len() >= 40, "{} rows", rows.len());
    let ordinary = std::fs::read_to_string(folder().join("ordinary/src/lib.rs")).unwrap();
    for Row { name, test } in &rows {
        assert!(tests.contains(&format!("fn {test}()")), "{name}: there is no test {test}");
        let (kind, own) = name.split_once('/').unwrap();
        let there = match kind {
            "file" => tests.contains(name.as_str()),
            "ordinary" => ordinary.contains(&format!("\"{own}\" =>")),
            _ => folder().join(format!("{name}.wat")).exists(),
        };
        assert!(there, "{name}: there is no such guest");
        assert!(tests.contains(name.as_str()), "{name}: no test names it");
    }
    for kind in ["hook", "policy", "console", "log-processor"] {
        for entry in std::fs::read_dir(folder().join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{kind}/{}", path.file_stem().unwrap().to_str().unwrap());
            assert!(named.contains(name.as_str()), "{name} has no row");
        }
    }
}
