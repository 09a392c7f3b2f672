//! What an author does again and again: run it once, measure it, build it after each change.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::project::Project;

/// A build and the start of the tools, on a machine that does other things as well.
const DEADLINE: Duration = Duration::from_secs(180);

#[test]
fn one_event_is_run_and_all_that_it_did_is_shown() {
    let project = Project::built("once", "policy", "rust");
    project.write(
        "event.toml",
        "config = { frozen = [\"shop\"] }\n[input]\napp = \"shop\"\nactions = [\"release.create\"]\n",
    );
    let said = project.run(&["ext", "run", "--event", "event.toml"]).good();
    assert!(said.contains("\"deny\": \"shop is frozen, so user:ada may not"), "{said}");
    assert!(said.contains("used ") && said.contains(" of 100 ms CPU"), "{said}");
    project.write("event.json", "{ \"app\": \"shop\", \"actions\": [] }");
    let said = project.run(&["ext", "run", "--event", "event.json"]).good();
    assert!(said.contains("\"allow\": []"), "{said}");
    project.write("event.json", "{ \"apps\": 1 }");
    let said = project.run(&["ext", "run", "--event", "event.json"]).refused();
    assert!(said.contains("the input does not fit this kind of extension"), "{said}");
    assert!(project.run(&["ext", "run", "--event", "no.json"]).refused().contains("no.json"));
}

#[test]
fn a_measurement_gives_medians() {
    let project = Project::built("measured", "middleware", "rust");
    let said = project.run(&["ext", "bench", "--seconds", "1"]).good();
    assert!(said.contains("each in a warm instance"), "{said}");
    let said = project.run(&["ext", "bench", "--seconds", "1", "--json"]).good();
    let measured: serde_json::Value = serde_json::from_str(&said).unwrap();
    let number = |name: &str| measured[name].as_f64().unwrap();
    assert!(number("calls") > 10.0 && number("p50_us") > 0.0, "{said}");
    assert!(number("p99_us") >= number("p50_us") && number("cpu_us") > 0.0, "{said}");
}

/// `berth ext dev`, and what it says.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut command = project.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Everything up to a line that has the text.
    #[track_caller]
    fn until(&self, text: &str) -> Vec<String> {
        let until = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while let Ok(line) =
            self.lines.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            let found = line.contains(text);
            seen.push(line);
            if found {
                return seen;
            }
        }
        panic!("no line has {text:?}: {seen:#?}");
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_change_is_built_tested_and_put_where_a_platform_finds_it() {
    const WAITS: &str = "Waiting for a change";
    let project = Project::new("watched", "policy", "rust");
    let into = project.path("../into");
    std::fs::create_dir(&into).unwrap();
    let put = into.join("local.watched.wasm");
    let watching =
        Watching::start(&project, &["ext", "dev", "--into", &into.display().to_string()]);
    watching.until(WAITS);
    let first = std::fs::read(&put).unwrap();

    // A change that is wrong leaves what is there, and is waited over.
    project.edit("src/lib.rs", "is frozen, so", "stands still, so");
    let seen = watching.until(WAITS);
    assert!(seen.iter().any(|line| line.contains("-----> Building")), "{seen:#?}");
    assert_eq!(std::fs::read(&put).unwrap(), first);

    // What the case expects changes as well.
    project.edit("tests/first.toml", "is frozen, so", "stands still, so");
    let seen = watching.until(WAITS);
    assert!(seen.iter().any(|line| line.contains("-----> Put into")), "{seen:#?}");
    assert_ne!(std::fs::read(&put).unwrap(), first);
}
