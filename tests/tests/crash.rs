//! `kill -9` after every durable trace of a push, then a start: it converges, nothing is double,
//! nothing is left, and the release before serves all the while.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use acceptance::freeze::{Renamed, Watch};
use acceptance::load::Form;
use acceptance::platform::programs;
use acceptance::traces::{self, processes};
use acceptance::{Load, Platform, Repository, Rows, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CONFIG: &str = "\
[deploy]
monitor_ms = 400
drain_ms_max = 2000
check_ms_max = 15000
stop_ms_max = 2000
";

/// Answers GET and POST with a page that is read at the start.
const SERVER: &str = "\
import http.server, os
page = open('page.txt', 'rb').read()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.rfile.read(int(self.headers.get('content-length', 0)))
        self.send_response(200)
        self.send_header('content-length', str(len(page)))
        self.end_headers()
        self.wfile.write(page)
    do_POST = do_GET
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), Handler).serve_forever()
";

const FORM: Form = Form { get: "/", post: "/", body: "a=b" };

/// A platform with one app that serves, and what is known of both from outside.
struct Drill {
    platform: Platform,
    repository: Repository,
    rows: Rows,
    app: &'static str,
    /// What serves.
    page: String,
    /// Its page does not tell which version it is.
    same_page: bool,
    commit: String,
    /// What the app has on the machine when nothing happens to it.
    calm: Vec<String>,
    round: u32,
}

/// What the database says of everything that is under way; 0 when nothing is.
const UNDER_WAY: &str = "SELECT (SELECT count(*) FROM deployments WHERE finished_at_ms IS NULL)
    + (SELECT count(*) FROM builds WHERE state = 'running' OR open = 1)
    + (SELECT count(*) FROM instances WHERE stopped_at_ms IS NOT NULL AND address IS NOT NULL)
    + (SELECT count(*) FROM instances WHERE state = 'draining')";
const RELEASES: &str = "SELECT count(*) FROM releases";
const SERVING: &str = "SELECT count(*) FROM instances WHERE stopped_at_ms IS NULL";
const NEWEST_BUILD: &str = "SELECT state FROM builds ORDER BY id DESC LIMIT 1";
const NEWEST_DEPLOYMENT: &str =
    "SELECT state FROM deployments ORDER BY created_at_ms DESC, id DESC LIMIT 1";

fn container_app() -> Repository {
    let repository = Repository::new();
    repository
        .write("requirements.txt", "")
        .write("server.py", SERVER)
        .write("page.txt", "round 0")
        .write("Procfile", "web: python3 server.py\nrelease: echo migrating\n");
    repository.commit("Round 0");
    repository
}

impl Drill {
    fn start(app: &'static str, repository: Repository) -> Self {
        let platform = Platform::start_with(CONFIG);
        let said = repository.deploy(&platform, app);
        assert!(said.matches("migrating").count() < 2, "each line is told once: {said}");
        let rows = Rows::of(&platform);
        let commit = repository.git(&["rev-parse", "HEAD"]).trim().to_owned();
        let page = platform.get(app, "/").unwrap().1;
        let mut drill = Self {
            platform,
            repository,
            rows,
            app,
            page,
            same_page: false,
            commit,
            calm: Vec::new(),
            round: 0,
        };
        drill.settle();
        drill.calm = traces::kinds(&drill.platform);
        drill
    }

    fn settle(&mut self) {
        let rows = &mut self.rows;
        wait_for("one instance and nothing under way", 40, || {
            (rows.number(UNDER_WAY) == 0 && rows.number(SERVING) == 1).then_some(())
        });
    }

    /// The next version, on its way. Its end is nobody's concern.
    fn push(&mut self) -> Child {
        self.round += 1;
        self.repository.write("page.txt", format!("round {}", self.round));
        self.repository.commit(&format!("Round {}", self.round));
        self.repository
            .push_command(&self.platform, self.app, &["HEAD:main"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git starts")
    }

    /// Pushes and kills `berthd` at the first yes of `seen`; false when the push went through.
    fn kill_at(
        &mut self,
        folders: &[PathBuf],
        mut seen: impl FnMut(&mut Rows, &[Renamed]) -> bool,
    ) -> bool {
        let state = self.platform.data.join("state");
        let all: Vec<&Path> =
            std::iter::once(state.as_path()).chain(folders.iter().map(PathBuf::as_path)).collect();
        let watch = Watch::on(&all);
        let mut push = self.push();
        let rows = RefCell::new(&mut self.rows);
        let pid = self.platform.pid();
        let mut ended = false;
        let stopped = watch.stop_when(
            pid,
            60,
            |renamed| seen(&mut rows.borrow_mut(), renamed),
            || {
                ended = ended || push.try_wait().expect("git").is_some();
                ended && rows.borrow_mut().number(UNDER_WAY) == 0
            },
        );
        if stopped {
            self.platform.kill();
        }
        push.wait().expect("git");
        stopped
    }

    /// Pushes, and leaves `berthd` stopped when the new deployment has come to a state.
    fn stopped_at(&mut self, state: &str) -> Child {
        let begun = self.newest_event();
        let query = format!(
            "SELECT count(*) FROM events WHERE seq > {begun} AND kind = 'deployment.changed'
               AND json_extract(\"after\", '$.state') = '{state}'"
        );
        let folder = self.platform.data.join("state");
        let watch = Watch::on(&[&folder]);
        let push = self.push();
        let rows = &mut self.rows;
        let pid = self.platform.pid();
        assert!(watch.stop_when(pid, 60, |_| rows.number(&query) > 0, || false));
        push
    }

    fn platform_id(&self) -> String {
        std::fs::read_to_string(self.platform.data.join("id")).unwrap().trim().to_owned()
    }

    /// Starts the platform again and holds it to everything that must be so then.
    fn converge(&mut self, at: &str, releases_before: i64) {
        let log = self.platform.log().len();
        let released = self.rows.number(RELEASES) > releases_before;
        assert_eq!(self.rows.number(RELEASES), releases_before + i64::from(released), "{at}");
        self.platform.serve().unwrap();
        self.settle();
        let after = |platform: &Platform| platform.log()[log..].to_owned();
        assert_eq!(
            self.rows.number(RELEASES),
            releases_before + i64::from(released),
            "{at}: a start makes no release\n{}",
            after(&self.platform)
        );
        let (build, deployment) = (self.rows.ask(NEWEST_BUILD), self.rows.ask(NEWEST_DEPLOYMENT));
        let phase_lost = self.rows.number(
            "SELECT count(*) FROM deployments WHERE state = 'failed' AND id =
               (SELECT deployment_id FROM instances WHERE role = 'release'
                ORDER BY created_at_ms DESC, id DESC LIMIT 1)
               AND id = (SELECT id FROM deployments ORDER BY created_at_ms DESC, id DESC LIMIT 1)",
        );
        if released && phase_lost == 0 {
            assert_eq!((build.as_str(), deployment.as_str()), ("succeeded", "done"), "{at}");
            self.went_through();
        } else if released {
            // A release phase whose start is not known to have happened is never run again.
            assert!(at.contains("instance"), "{at}: only its own start can be lost");
        } else {
            assert!(["abandoned", "succeeded", "none"].contains(&build.as_str()), "{at}: {build}");
            assert_eq!(deployment, "done", "{at}");
        }
        assert_eq!(self.platform.get(self.app, "/").unwrap(), (200, self.page.clone()), "{at}");
        assert_eq!(self.ref_of_main(), self.commit, "{at}");
        assert_eq!(self.rows.ask("PRAGMA quick_check"), "ok", "{at}");
        let doubles = "SELECT count(*) FROM (SELECT 1 FROM instances WHERE role = 'release'
                       GROUP BY deployment_id HAVING count(*) > 1)";
        assert_eq!(self.rows.number(doubles), 0, "{at}: a release phase runs at most once");
        self.nothing_left(at);
        self.log_is_readable(at);
    }

    fn ref_of_main(&mut self) -> String {
        let id = self.rows.ask(&format!("SELECT id FROM apps WHERE name = '{}'", self.app));
        let path = self.platform.data.join(format!("git/{id}.git/refs/heads/main"));
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    fn nothing_left(&self, at: &str) {
        let mut left = (Vec::new(), Vec::new());
        for _ in 0..100 {
            left = (traces::kinds(&self.platform), traces::unfinished(&self.platform));
            if left.0 == self.calm && left.1.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let (now, unfinished) = left;
        let more: Vec<_> = now.iter().filter(|line| !self.calm.contains(line)).collect();
        panic!(
            "{at}: left or missing: {more:#?}\nunfinished: {unfinished:#?}\nnow {now:#?}\ncalm {:#?}",
            self.calm
        );
    }

    /// The newest build's log is there and has an end.
    fn log_is_readable(&mut self, at: &str) {
        let build = self.rows.ask("SELECT id FROM builds ORDER BY id DESC LIMIT 1");
        let shown = self.platform.berth(&["builds", "show", "--app", self.app, &build]);
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(!text.trim().is_empty(), "{at}: {}", String::from_utf8_lossy(&shown.stderr));
        let commit = self.rows.ask("SELECT commit_id FROM builds ORDER BY id DESC LIMIT 1");
        assert_eq!(text.contains("Application deployed"), commit == self.commit, "{at}: {text}");
    }

    /// Kills at the first event of a push, then at the second of the next one, and so on until a
    /// push goes through.
    fn after_each_event(&mut self) -> u32 {
        let mut count = 1;
        let mut kills = 0;
        loop {
            let (before, releases) = (self.newest_event(), self.rows.number(RELEASES));
            let query = format!(
                "SELECT count(*) || ' ' || coalesce(max(kind), '') FROM
                   (SELECT kind FROM events WHERE seq > {before} ORDER BY seq)"
            );
            let mut reached = 0;
            let killed = self.kill_at(&[], |rows, _| {
                let answer = rows.ask(&query);
                reached = answer.split(' ').next().unwrap().parse().unwrap();
                reached >= count
            });
            if !killed {
                self.settle();
                self.went_through();
                return kills;
            }
            let last = self.rows.ask(&format!(
                "SELECT kind || ' ' || \"after\" FROM events WHERE seq <= {before} + {reached}
                 ORDER BY seq DESC LIMIT 1"
            ));
            self.converge(&format!("event {reached}: {last}"), releases);
            kills += 1;
            count = reached + 1;
        }
    }

    /// What was pushed last serves now.
    fn went_through(&mut self) {
        self.commit = self.repository.git(&["rev-parse", "HEAD"]).trim().to_owned();
        if !self.same_page {
            self.page = format!("round {}", self.round);
        }
    }

    fn newest_event(&mut self) -> i64 {
        self.rows.number("SELECT coalesce(max(seq), 0) FROM events")
    }
}

#[test]
fn berthd_killed_after_each_row_of_a_push_converges_and_no_request_fails() {
    let mut drill = Drill::start("app", container_app());
    let load = Load::start(drill.platform.http, "app.localhost", FORM, 40);
    let kills = drill.after_each_event();
    assert!(kills >= 12, "a push leaves more rows than {kills}");
    let seen = load.finish();
    assert!(
        seen.failures.is_empty(),
        "{} of {}: {:#?}",
        seen.failures.len(),
        seen.sent,
        seen.failures
    );
}

#[test]
fn berthd_killed_after_each_row_of_a_push_of_a_component_converges_and_no_request_fails() {
    let repository = Repository::new();
    let component = std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap();
    repository.write("app.wasm", component).write("page.txt", "round 0");
    repository.commit("Round 0");
    let mut drill = Drill::start("hello", repository);
    drill.same_page = true;
    let load = Load::start(drill.platform.http, "hello.localhost", FORM, 40);
    let kills = drill.after_each_event();
    assert!(kills >= 7, "a push leaves more rows than {kills}");
    let seen = load.finish();
    assert!(
        seen.failures.is_empty(),
        "{} of {}: {:#?}",
        seen.failures.len(),
        seen.sent,
        seen.failures
    );
}

#[test]
fn berthd_killed_after_each_file_of_a_push_converges_and_no_request_fails() {
    let mut drill = Drill::start("app", container_app());
    let load = Load::start(drill.platform.http, "app.localhost", FORM, 40);

    // The archive of the tree, the app's layer, the image's configuration and manifest.
    let blobs = drill.platform.data.join("blobs/sha256");
    for nth in 1.. {
        let releases = drill.rows.number(RELEASES);
        let mut come = 0;
        let killed = drill.kill_at(std::slice::from_ref(&blobs), |_, renamed| {
            come += renamed.len();
            come >= nth
        });
        if !killed {
            assert!(nth > 3, "a push leaves more blobs than {nth}");
            drill.settle();
            drill.went_through();
            break;
        }
        drill.converge(&format!("blob {nth}"), releases);
    }

    // A line of the log while it is built.
    let releases = drill.rows.number(RELEASES);
    let lines = "SELECT count(*) FROM build_log WHERE build_id =
                 (SELECT id FROM builds WHERE state = 'running')";
    // A build that is over within one batch of lines has them only after its end.
    let begun = drill.newest_event();
    let ended =
        format!("SELECT count(*) FROM events WHERE seq > {begun} AND kind = 'build.finished'");
    let killed = drill.kill_at(&[], |rows, _| rows.number(lines) > 0 || rows.number(&ended) > 0);
    assert!(killed);
    drill.converge("a line of the log", releases);

    // The snapshot of the routes with the new release.
    let releases = drill.rows.number(RELEASES);
    let route = drill.platform.data.join("route");
    let killed = drill.kill_at(&[route], |rows, renamed| {
        let snapshot = renamed.iter().any(|(folder, _)| *folder == 1);
        snapshot && ["switching", "monitoring"].contains(&rows.ask(NEWEST_DEPLOYMENT).as_str())
    });
    assert!(killed);
    drill.converge("the snapshot of the routes", releases);

    // The ref.
    let releases = drill.rows.number(RELEASES);
    let id = drill.rows.ask("SELECT id FROM apps");
    let heads = drill.platform.data.join(format!("git/{id}.git/refs/heads"));
    let killed = drill.kill_at(&[heads], |_, renamed| renamed.iter().any(|(_, n)| n == "main"));
    assert!(killed);
    drill.converge("the ref", releases);

    let seen = load.finish();
    assert!(
        seen.failures.is_empty(),
        "{} of {}: {:#?}",
        seen.failures.len(),
        seen.sent,
        seen.failures
    );
}

#[test]
fn a_ref_moves_after_a_crash_between_the_switch_and_the_ref_and_the_commit_is_not_built_again() {
    let mut drill = Drill::start("app", container_app());
    let old = drill.commit.clone();
    let releases = drill.rows.number(RELEASES);
    let killed = drill.kill_at(&[], |rows, _| rows.ask(NEWEST_DEPLOYMENT) == "switching");
    assert!(killed);
    assert_eq!(drill.ref_of_main(), old, "killed before the ref moved");
    drill.converge("the switch", releases);
    assert_ne!(drill.ref_of_main(), old);
    let again = drill.repository.push(&drill.platform, "app", &["HEAD:main"]);
    assert!(again.ok && again.text.contains("up-to-date"), "{}", again.text);
}

#[test]
fn a_build_that_is_killed_leaves_no_container_and_its_lock_is_free() {
    let mut drill = Drill::start("app", container_app());
    let releases = drill.rows.number(RELEASES);
    drill.repository.write("requirements.txt", "./slow\n");
    drill.repository.endless_package("98761");
    let mut push = drill.push();
    let sleeper = wait_for("the build to be in its container", 60, || {
        processes(&["sleep", "98761"]).first().copied()
    });
    drill.platform.kill();
    push.wait().unwrap();
    drill.repository.write("requirements.txt", "");
    drill.converge("a build in its container", releases);
    assert_eq!(drill.rows.ask(NEWEST_BUILD), "abandoned");
    assert!(!Path::new(&format!("/proc/{sleeper}")).exists());
    drill.push().wait().unwrap();
    drill.settle();
    drill.went_through();
    assert_eq!(drill.platform.get("app", "/").unwrap(), (200, drill.page.clone()));
}

/// The processes of the platform and of its app.
fn kill_one(words: &[&str]) {
    let found = wait_for("the process", 10, || {
        let found = processes(words);
        (!found.is_empty()).then_some(found)
    });
    for pid in found {
        // It may end by itself meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[test]
fn router_agent_and_run_processes_killed_on_the_way_leave_what_was_wanted() {
    let mut drill = Drill::start("app", container_app());
    let data = drill.platform.data.display().to_string();
    for state in ["starting", "checking", "switching", "monitoring"] {
        for who in ["router", "agent", "run processes"] {
            let at = format!("{who} killed while {state}");
            let releases = drill.rows.number(RELEASES);
            let mut push = drill.stopped_at(state);
            match who {
                "router" => kill_one(&["berthd", " route ", "--listeners-from-fd", &data]),
                "agent" => kill_one(&["berth-agent serve", &data]),
                _ => kill_one(&["berth-agent run", &drill.platform_id()]),
            }
            let pid = Pid::from_raw(i32::try_from(drill.platform.pid()).unwrap());
            kill(pid, Signal::SIGCONT).unwrap();
            if who == "agent" {
                assert_eq!(drill.platform.wait_end(), 70, "{at}");
                drill.platform.serve().unwrap();
            }
            wait_for("git to end", 30, || push.try_wait().unwrap());
            drill.settle();
            assert_eq!(drill.rows.number(RELEASES), releases + 1, "{at}");
            let state = drill.rows.ask(
                "SELECT deployments.state FROM deployments JOIN releases ON releases.id = release_id
                 WHERE rollback = 0 ORDER BY releases.number DESC LIMIT 1",
            );
            // An instance that ends while it is watched brings the release before back.
            let rolled_back = who == "run processes" && state == "rolled_back";
            assert!(rolled_back || state == "done", "{at}: {state}\n{}", drill.platform.log());
            let page = std::mem::take(&mut drill.page);
            drill.went_through();
            if rolled_back {
                drill.page = page;
            }
            wait_for("the app to answer", 20, || {
                let (status, text) = drill.platform.get("app", "/").ok()?;
                (status == 200).then(|| assert_eq!(text, drill.page, "{at}"))
            });
            assert_eq!(drill.ref_of_main(), drill.commit, "{at}");
            drill.nothing_left(&at);
        }
    }
}

#[test]
fn a_wasm_worker_killed_on_the_way_leaves_what_was_wanted() {
    let repository = Repository::new();
    let component = std::fs::read(programs().join("samples/wasm-hello/app.wasm")).unwrap();
    repository.write("app.wasm", component);
    repository.commit("Round 0");
    let mut drill = Drill::start("hello", repository);
    drill.same_page = true;
    let data = drill.platform.data.display().to_string();
    for state in ["starting", "switching", "monitoring"] {
        let at = format!("Wasm worker killed while {state}");
        let mut push = drill.stopped_at(state);
        kill_one(&["berthd", " wasm ", "--listeners-from-fd", &data]);
        let pid = Pid::from_raw(i32::try_from(drill.platform.pid()).unwrap());
        kill(pid, Signal::SIGCONT).unwrap();
        assert!(push.wait().unwrap().success(), "{at}");
        drill.settle();
        drill.went_through();
        wait_for("the app to answer", 20, || {
            let (status, text) = drill.platform.get("hello", "/").ok()?;
            (status == 200).then(|| assert_eq!(text, drill.page, "{at}"))
        });
        assert_eq!(drill.rows.ask(NEWEST_DEPLOYMENT), "done", "{at}");
        drill.nothing_left(&at);
    }
}
