//! The disk of the data folder gets full: during a push, a build, a deployment, and while apps run.
//! The reason is said, nothing is lost, what serves goes on serving, and with room again everything
//! goes on without a start.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use acceptance::freeze::Watch;
use acceptance::load::Form;
use acceptance::traces::processes;
use acceptance::{Load, Platform, Repository, Rows, wait_for};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// What is kept free is little, so that the disk can be filled to the brim.
const CONFIG: &str = "\
[deploy]
monitor_ms = 400
drain_ms_max = 2000
check_ms_max = 15000
stop_ms_max = 2000

[disk]
free_mib_min = 64
";

/// Answers GET and POST, and writes a line of a kilobyte for each.
const SERVER: &str = "\
import http.server, os
page = open('page.txt', 'rb').read()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.rfile.read(int(self.headers.get('content-length', 0)))
        print('a line of a kilobyte ' + 'x' * 1000, flush=True)
        self.send_response(200)
        self.send_header('content-length', str(len(page)))
        self.end_headers()
        self.wfile.write(page)
    do_POST = do_GET
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), Handler).serve_forever()
";

/// A file system of its own, in a file; it goes away with this.
struct SmallDisk {
    image: PathBuf,
    folder: PathBuf,
}

impl SmallDisk {
    fn new(gib: u64) -> Self {
        let parent = Path::new("/var/lib/berth-test");
        std::fs::create_dir_all(parent).unwrap();
        let folder = tempfile::Builder::new().prefix("d").tempdir_in(parent).unwrap().keep();
        let image = folder.with_extension("img");
        std::fs::File::create(&image).unwrap().set_len(gib << 30).unwrap();
        let disk = Self { image, folder };
        run("mkfs.ext4", &["-q", "-m", "0", &disk.image.display().to_string()]);
        let (image, folder) = (disk.image.display(), disk.folder.display());
        run("mount", &["-o", "loop", &image.to_string(), &folder.to_string()]);
        disk
    }

    fn data(&self) -> PathBuf {
        let data = self.folder.join("data");
        std::fs::create_dir(&data).unwrap();
        data
    }

    /// Takes all that is free but so many MiB.
    fn fill(&self, left_mib: u64) {
        let found = rustix::fs::statvfs(&self.folder).unwrap();
        let mut take = (found.f_bavail * found.f_frsize).saturating_sub(left_mib << 20);
        let file = std::fs::File::create(self.folder.join("filling")).unwrap();
        let none = rustix::fs::FallocateFlags::empty();
        // The file system needs some of it for itself, and others write meanwhile.
        while rustix::fs::fallocate(&file, none, 0, take).is_err() {
            take = take.checked_sub(1 << 20).expect("some space is free");
        }
        if left_mib == 0 {
            // The last blocks, which the estimate left.
            let mut rest = std::fs::File::create(self.folder.join("rest")).unwrap();
            while std::io::Write::write_all(&mut rest, &[0; 4096]).is_ok() {}
        }
    }

    fn free(&self) {
        for name in ["filling", "rest"] {
            // What was not taken need not be given back.
            let _ = std::fs::remove_file(self.folder.join(name));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
        let _ = std::fs::remove_dir(&self.folder);
        let _ = std::fs::remove_file(&self.image);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn app(page: &str) -> Repository {
    let repository = Repository::new();
    repository
        .write("requirements.txt", "")
        .write("server.py", SERVER)
        .write("page.txt", page)
        .write("Procfile", "web: python3 server.py\n");
    repository.commit(page);
    repository
}

fn next(repository: &Repository, page: &str) {
    repository.write("page.txt", page);
    repository.commit(page);
}

fn serves(platform: &Platform, page: &str) {
    assert_eq!(platform.get("app", "/").unwrap(), (200, page.to_owned()));
}

fn settled(rows: &mut Rows) {
    wait_for("nothing to be under way", 60, || {
        let left = rows.number(
            "SELECT (SELECT count(*) FROM deployments WHERE finished_at_ms IS NULL)
                  + (SELECT count(*) FROM builds WHERE state = 'running' OR open = 1)
                  + (SELECT count(*) FROM instances WHERE state = 'draining')",
        );
        (left == 0).then_some(())
    });
}

#[test]
fn a_full_disk_is_said_loses_nothing_and_needs_no_start_once_there_is_room() {
    let disk = SmallDisk::new(5);
    let platform = Platform::start_in(disk.data(), CONFIG);
    let repository = app("one");
    repository.deploy(&platform, "app");
    let mut rows = Rows::of(&platform);
    settled(&mut rows);
    let load =
        Load::start(platform.http, "app.localhost", Form { get: "/", post: "/", body: "a=b" }, 50);

    // Nearly full: nothing is built into what is kept for what runs.
    disk.fill(32);
    next(&repository, "two");
    let refused = repository.push(&platform, "app", &["HEAD:main"]);
    assert!(
        !refused.ok && refused.text.contains("The platform's disk is full"),
        "{}",
        refused.text
    );
    let doctor = platform.berth(&["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("nothing is built"), "{doctor:?}");
    serves(&platform, "one");
    disk.free();
    repository.deploy(&platform, "app");
    serves(&platform, "two");

    // Full to the brim: the push says so, whoever notices it first; the app goes on, and writes.
    settled(&mut rows);
    disk.fill(0);
    next(&repository, "three");
    repository.write("large.bin", vec![7; 8 << 20]);
    repository.commit("More than there is room for");
    let refused = repository.push(&platform, "app", &["HEAD:main"]);
    assert!(!refused.ok, "{}", refused.text);
    let said = refused.text.to_lowercase();
    assert!(said.contains("disk is full") || said.contains("no space left"), "{}", refused.text);
    let sent = load.sent();
    wait_for("a megabyte of lines", 60, || (load.sent() > sent + 1000).then_some(()));
    serves(&platform, "two");
    assert!(platform.berth(&["logs", "--app", "app"]).status.success());
    disk.free();
    repository.deploy(&platform, "app");
    serves(&platform, "three");
    wait_for("lines after the full disk", 20, || {
        let text = platform.must(&["logs", "--app", "app"]);
        text.contains("a line of a kilobyte").then_some(())
    });

    // Full during a build, which is cancelled then.
    settled(&mut rows);
    repository.write("requirements.txt", "./slow\n");
    repository.endless_package("98763");
    next(&repository, "four");
    let mut push = repository.push_command(&platform, "app", &["HEAD:main"]);
    let mut push = push.process_group(0).spawn().unwrap();
    wait_for("the build to be in its container", 60, || {
        processes(&["sleep", "98763"]).first().copied()
    });
    disk.fill(0);
    // git and what it started: the connection is one of theirs.
    killpg(Pid::from_raw(i32::try_from(push.id()).unwrap()), Signal::SIGKILL).unwrap();
    push.wait().unwrap();
    wait_for("the build container to end", 30, || {
        processes(&["sleep", "98763"]).is_empty().then_some(())
    });
    serves(&platform, "three");
    disk.free();
    settled(&mut rows);
    let state = rows.ask("SELECT state FROM builds ORDER BY id DESC LIMIT 1");
    assert!(["cancelled", "failed"].contains(&state.as_str()), "{state}");
    repository.write("requirements.txt", "");
    std::fs::remove_dir_all(repository.path().join("slow")).unwrap();

    // Full from the release on: the deployment ends when there is room, or says what is missing.
    next(&repository, "five");
    let folder = platform.data.join("state");
    let watch = Watch::on(&[&folder]);
    let releases = rows.number("SELECT count(*) FROM releases");
    let mut push = repository.push_command(&platform, "app", &["HEAD:main"]).spawn().unwrap();
    let released = |rows: &mut Rows| rows.number("SELECT count(*) FROM releases") > releases;
    assert!(watch.stop_when(platform.pid(), 60, |_| released(&mut rows), || false));
    disk.fill(0);
    kill(Pid::from_raw(i32::try_from(platform.pid()).unwrap()), Signal::SIGCONT).unwrap();
    let sent = load.sent();
    wait_for("requests while it is full", 60, || (load.sent() > sent + 150).then_some(()));
    disk.free();
    push.wait().unwrap();
    settled(&mut rows);
    let state = rows.ask("SELECT state FROM deployments ORDER BY number DESC LIMIT 1");
    if state == "failed" {
        let error = rows.ask("SELECT error FROM deployments ORDER BY number DESC LIMIT 1");
        assert!(error.contains("space") || error.contains("must stay free"), "{error}");
        serves(&platform, "three");
        repository.git(&["commit", "--quiet", "--allow-empty", "-m", "Again"]);
        repository.deploy(&platform, "app");
    } else {
        assert_eq!(state, "done");
    }
    serves(&platform, "five");

    let seen = load.finish();
    assert!(
        seen.failures.is_empty(),
        "{} of {} failed: {:#?}",
        seen.failures.len(),
        seen.sent,
        &seen.failures[..seen.failures.len().min(10)]
    );
    assert_eq!(rows.ask("PRAGMA integrity_check"), "ok");
    let id = rows.ask("SELECT id FROM apps");
    let bare = platform.data.join(format!("git/{id}.git"));
    let fsck = Command::new("git")
        .args(["-c", "safe.directory=*", "--git-dir"])
        .arg(&bare)
        .args(["fsck", "--full"])
        .output()
        .unwrap();
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stderr));
    let head = repository.git(&["rev-parse", "HEAD"]);
    let main = std::fs::read_to_string(bare.join("refs/heads/main")).unwrap();
    assert_eq!(main.trim(), head.trim());
}
