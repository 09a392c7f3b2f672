//! `berth ext test`: recorded answers, a clock that stands still, budgets, and red where it must be.

use crate::project::Project;

/// A hook that asks a server, and knows the time.
const SOURCE: &str = r#"
wit_bindgen::generate!({ world: "extension", path: "wit", generate_all });

use berth::clock::clock;
use berth::http_out::http_out::Request;
use berth::log::log;
use exports::berth::hook::handler::{Error, Event, Guest};

struct Extension;

impl Guest for Extension {
    fn on_event(event: Event) -> Result<(), Error> {
        log::line("info", &format!("it is {}", clock::now_ms()));
        let response = Request::new("GET", &format!("https://example.com/{}", event.id)).send()?;
        log::line("info", &format!("answered {}", response.status));
        if event.kind == "deployment.failed" {
            // More than a call may use.
            let mut number = event.at_ms;
            loop {
                number = std::hint::black_box(number.wrapping_mul(31));
            }
        }
        Ok(())
    }
}

export!(Extension);
"#;

const MANIFEST: &str = r#"
[extension]
id = "local.recorded"
version = "0.1.0"
kind = "hook"
api = "berth:hook@0.1.0"

[capabilities]
events = { kinds = ["deployment.*"], why = "to tell of them" }
http = [{ host = "example.com", methods = ["GET"], why = "to ask" }]
clock = { why = "to say when" }
"#;

const CASE: &str = r#"
now_ms = 86400000

[input]
id = "one"
kind = "deployment.succeeded"

[expect]
calls = ["http GET https://example.com/one"]
log = ["it is 86400000", "answered 204"]
"#;

const ANSWER: &str = r#"[{
  "request": { "method": "GET", "url": "https://example.com/one" },
  "response": { "status": 204 }
}]"#;

#[test]
fn cases_are_answered_from_the_recording_and_judged() {
    let project = Project::new("recorded", "hook", "rust");
    project.write("src/lib.rs", SOURCE);
    project.write("extension.toml", MANIFEST);
    project.write("tests/first.toml", CASE);
    project.write("tests/first.http.json", ANSWER);
    project.run(&["ext", "build"]).good();

    // Green, twice the same, with what it used of what it may use.
    for _ in 0..2 {
        let said = project.run(&["ext", "test"]).good();
        assert!(said.contains("1 of 1 cases passed"), "{said}");
        let used = said.split_once("used ").unwrap().1;
        let (cpu_ms, rest) = used.split_once(" of 1000 ms CPU, ").unwrap();
        assert!(cpu_ms.parse::<f32>().unwrap() < 1000.0, "{said}");
        assert!(rest.contains(" of 64 MiB, 5 of 256 host calls"), "{said}");
    }

    // The data of it.
    let said = project.run(&["ext", "test", "--json"]).good();
    let case: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(case["ok"], true);
    assert_eq!(case["calls"][0], "http GET https://example.com/one");
    assert!(case["usage"]["cpu_us"].as_u64().unwrap() > 0, "{said}");

    // Another request than the recorded one.
    project.edit("tests/first.toml", "id = \"one\"", "id = \"two\"");
    let said = project.run(&["ext", "test"]).refused();
    assert!(said.contains("FAILED first"), "{said}");
    assert!(said.contains("GET https://example.com/two"), "{said}");
    assert!(said.contains("is not in the recording"), "{said}");
    assert!(
        said.contains("GET https://example.com/one is in the recording but was not sent"),
        "{said}"
    );
    project.write("tests/first.toml", CASE);

    // An expectation that is not met, of each form.
    for (old, new, told) in [
        ("answered 204", "answered 200", "no line of the log has 'answered 200'"),
        ("com/one\"]", "com/one\", \"kv.put x\"]", "it asked the host for "),
        ("[expect]", "[expect]\nerror = \"refused\"", "the error 'refused' was expected, but "),
        ("now_ms = 86400000", "now_ms = 1", "no line of the log has 'it is 86400000'"),
        ("[expect]", "[expect]\noutput = \"done\"", "output is null, not \"done\""),
    ] {
        project.write("tests/first.toml", &CASE.replace(old, new));
        let said = project.run(&["ext", "test"]).refused();
        assert!(said.contains("FAILED first") && said.contains(told), "{told}: {said}");
        assert!(said.contains("0 of 1 cases passed"), "{said}");
    }

    // A limit ends it as it would on a platform.
    project.write("tests/first.toml", &CASE.replace("succeeded", "failed"));
    let said = project.run(&["ext", "test"]).refused();
    assert!(said.contains("it was ended ('cpu')"), "{said}");
    project.write(
        "tests/first.toml",
        &CASE.replace("succeeded", "failed").replace("[expect]", "[expect]\nfault = \"cpu\""),
    );
    let said = project.run(&["ext", "test"]).good();
    assert!(said.contains("little is left"), "{said}");

    // A case with a mistake is named with its line.
    project.write("tests/first.toml", &CASE.replace("now_ms", "now"));
    let said = project.run(&["ext", "test"]).refused();
    assert!(said.contains("tests/first.toml:2: unknown field `now`"), "{said}");

    // Only the case that is asked for.
    project.write("tests/first.toml", CASE);
    project.write("tests/second.toml", &CASE.replace("one", "three"));
    let said = project.run(&["ext", "test", "--case", "first"]).good();
    assert!(said.contains("1 of 1 cases passed"), "{said}");
    assert!(project.run(&["ext", "test"]).refused().contains("1 of 2 cases passed"));
}
