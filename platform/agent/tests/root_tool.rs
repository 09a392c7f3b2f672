//! git and the compiler by the agent, against git's own client. Needs root, busybox-static, git.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "root_agent/platform.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod platform;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use berth_container::{Engine, Exit, FailureCode, Ids, Reply, Request, Tool};
use platform::{Platform, app, code, memory, text_of};

async fn ids(platform: &Platform) -> Ids {
    let request = Request::Hello { protocol: berth_container::PROTOCOL };
    match platform.call(&request, &[]).await.unwrap() {
        Reply::Hello { ids, .. } => ids,
        reply => panic!("{reply:?}"),
    }
}

fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "safe.directory=*"])
        .args(["-c", "init.defaultBranch=main"])
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The repository of an app as berthd makes it.
async fn repository(platform: &Platform, app: berth_model::AppId) -> PathBuf {
    let path = platform.data.join("git").join(format!("{app}.git"));
    let ids = ids(platform).await;
    fs::create_dir_all(&path).unwrap();
    git(&path, &["init", "--quiet", "--bare", "."]);
    own(&path, ids);
    path
}

fn own(path: &Path, ids: Ids) {
    chown(path, Some(ids.control), Some(ids.tool)).unwrap();
    if path.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o2770)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), ids);
        }
    } else {
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).unwrap();
    }
}

/// A clone with one commit of a file.
fn work(content: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet"]);
    fs::write(folder.path().join("file"), content).unwrap();
    git(folder.path(), &["add", "."]);
    git(folder.path(), &["commit", "--quiet", "-m", "one"]);
    folder
}

/// Hooks beside the platform's own, which is the init.
fn hooks(platform: &Platform, pre_receive: Option<&str>) {
    let folder = platform.data.join("bin/test/hooks");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(platform.data.join("bin/test/berth-init"), folder.join("proc-receive")).unwrap();
    if let Some(script) = pre_receive {
        let path = folder.join("pre-receive");
        fs::write(&path, format!("#!/bin/bash\nexec >&2\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// git's client on two pipes; the other ends are the tool's standard input and output.
fn client(folder: &Path, words: &[&str]) -> (Child, OwnedFd, OwnedFd) {
    let (tool_in, ours_out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (ours_in, tool_out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    // A shell moves them out of the way of git's own streams; nothing else inherits them.
    let child = Command::new("bash")
        .args(["-c", "exec git \"$@\" 10<&0 11>&1 < /dev/null > /dev/null", "git"])
        .args(words.iter().map(|word| if *word == "REMOTE" { "fd::10,11" } else { word }))
        .current_dir(folder)
        .stdin(Stdio::from(ours_in))
        .stdout(Stdio::from(ours_out))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (child, tool_in, tool_out)
}

fn receive_pack(pack_mib_max: u32) -> Tool {
    Tool::ReceivePack { app: app(1), stateless: false, advertise: false, version: 0, pack_mib_max }
}

/// What git says to the hook and hears from it, as berthd would speak: every command is `ok`.
fn accept_all(mut socket: UnixStream) -> String {
    let mut heard = String::new();
    let line = |socket: &mut UnixStream| -> Option<String> {
        let mut length = [0; 4];
        socket.read_exact(&mut length).ok()?;
        let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
        if length == 0 {
            return None;
        }
        let mut text = vec![0; length - 4];
        socket.read_exact(&mut text).unwrap();
        Some(String::from_utf8_lossy(&text).trim_end().to_owned())
    };
    let frame = |channel: u8, bytes: &[u8]| {
        [&[channel][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
    };
    let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
    while line(&mut socket).is_some() {}
    socket.write_all(&frame(1, format!("{}0000", packet("version=1\n")).as_bytes())).unwrap();
    let mut answer = String::new();
    while let Some(command) = line(&mut socket) {
        let name = command.split(' ').nth(2).unwrap().to_owned();
        answer += &packet(&format!("ok {name}\n"));
        heard += &format!("{command}\n");
    }
    socket.write_all(&frame(2, b"-----> Building\n")).unwrap();
    socket.write_all(&frame(1, format!("{answer}0000").as_bytes())).unwrap();
    socket.write_all(&frame(3, &[0])).unwrap();
    heard
}

struct Pushed {
    exit: Exit,
    client: std::process::Output,
    tool_errors: String,
    heard: String,
}

impl Pushed {
    fn said(&self) -> String {
        String::from_utf8_lossy(&self.client.stderr).into_owned()
    }
}

async fn push(platform: &Platform, folder: &Path, pack_mib_max: u32) -> Pushed {
    let (child, tool_in, tool_out) = client(folder, &["push", "REMOTE", "main"]);
    let errors = memory(b"");
    let (ours, hook) = UnixStream::pair().unwrap();
    let berthd = std::thread::spawn(move || {
        std::panic::catch_unwind(|| accept_all(ours)).unwrap_or_default()
    });
    let descriptors = [tool_in, tool_out, errors.try_clone().unwrap(), hook.into()];
    let request = Request::Tool { tool: receive_pack(pack_mib_max) };
    let reply = platform.call(&request, &descriptors).await.unwrap();
    drop(descriptors);
    let Reply::Exited(exit) = reply else { panic!("{reply:?}") };
    let client = child.wait_with_output().unwrap();
    Pushed { exit, client, tool_errors: text_of(errors), heard: berthd.join().unwrap() }
}

fn no_leftovers(platform: &Platform) {
    assert_eq!(platform.memory_group("confined"), None);
}

#[tokio::test]
async fn a_push_reaches_the_hook_and_its_objects_the_repository() {
    let platform = Platform::new();
    let repository = repository(&platform, app(1)).await;
    hooks(&platform, None);
    let work = work(b"hello");
    let pushed = push(&platform, work.path(), 100).await;
    assert_eq!(pushed.exit.code, 0, "{} {}", pushed.said(), pushed.tool_errors);
    assert!(pushed.client.status.success(), "{}", pushed.said());
    assert!(pushed.said().contains("remote: -----> Building"), "{}", pushed.said());
    let commit = git(work.path(), &["rev-parse", "HEAD"]);
    assert!(pushed.heard.contains(commit.trim()) && pushed.heard.contains("refs/heads/main"));
    assert_eq!(git(&repository, &["show", &format!("{}:file", commit.trim())]), "hello");
    let ids = ids(&platform).await;
    let packs: Vec<_> = fs::read_dir(repository.join("objects/pack")).unwrap().flatten().collect();
    assert!(packs.len() >= 2, "one pack, never loose objects");
    for pack in packs {
        let found = pack.metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (ids.tool, ids.tool));
        assert_eq!(found.mode() & 0o040, 0o040, "the control id reads it by its group");
    }
    assert!(pushed.exit.memory_peak_bytes > 0 && !pushed.exit.oom && !pushed.exit.timed_out);
    no_leftovers(&platform);
}

#[tokio::test]
async fn the_tool_sees_its_repository_and_the_systems_programs_alone() {
    let platform = Platform::new();
    repository(&platform, app(1)).await;
    repository(&platform, app(2)).await;
    let script = "ls -d /* | tr '\\n' ' '; echo; id -u; id -G; env -0 | tr '\\0' ' '; echo; \
        ls /etc; touch /usr/x /berth/x /x 2>&1; ls -A /proc; cat /proc/net/dev; \
        (: < /dev/tcp/127.0.0.1/22) 2>&1; (: > /repository/description) && echo writable; \
        cp /bin/true /repository/run && /repository/run; echo run=$?; unshare -U true; echo unshare=$?; \
        ulimit -c; echo fds=$(ls /dev/fd 2>/dev/null | wc -l)";
    hooks(&platform, Some(script));
    let pushed = push(&platform, work(b"x").path(), 100).await;
    let said = pushed.said();
    let ids = ids(&platform).await;
    assert!(said.contains("/berth /bin /dev /etc") && said.contains("/repository"), "{said}");
    for hidden in ["/var", "/root", "/home", "/run", "/work", "/sys", "/tmp", "shadow", "passwd"] {
        assert!(
            !said.contains(&format!(" {hidden} ")) && !said.contains(&format!("remote: {hidden}")),
            "{hidden}: {said}"
        );
    }
    assert_eq!(
        said.matches(&format!("remote: {}", ids.tool)).count(),
        2,
        "user and groups: {said}"
    );
    assert!(said.contains("HOME=/nonexistent") && said.contains("GIT_CONFIG_NOSYSTEM=1"), "{said}");
    assert!(!said.contains("BERTH") && !said.contains("SSL_CERT_FILE"), "{said}");
    assert_eq!(said.matches("Read-only file system").count(), 3, "{said}");
    assert!(
        said.contains("Network is unreachable") || said.contains("Connection refused"),
        "{said}"
    );
    assert!(said.contains("remote: writable"), "{said}");
    assert!(said.contains("run=126") && said.contains("unshare=1"), "{said}");
    no_leftovers(&platform);
}

#[tokio::test]
async fn memory_and_processes_are_bounded() {
    let platform = Platform::new();
    repository(&platform, app(1)).await;
    hooks(
        &platform,
        Some("head -c 900000000 /dev/zero | tail -n 1 | wc -c; echo \"${PIPESTATUS[*]}\"; exit 1"),
    );
    let folder = work(b"x");
    let pushed = push(&platform, folder.path(), 100).await;
    assert!(pushed.exit.oom, "{:?} {}", pushed.exit, pushed.said());
    let script = "for i in $(seq 200); do sleep 30 & done; wait; exit 1";
    hooks(&platform, Some(&format!("( {script} ) 2>&1 | head -n 3; kill -9 0; exit 1")));
    let pushed = push(&platform, folder.path(), 100).await;
    assert!(pushed.said().contains("Resource temporarily unavailable"), "{}", pushed.said());
    no_leftovers(&platform);
}

#[tokio::test]
async fn a_pack_over_its_limit_is_refused_and_leaves_nothing() {
    let platform = Platform::new();
    let repository = repository(&platform, app(1)).await;
    hooks(&platform, None);
    let mut noise = vec![0; 3 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    let pushed = push(&platform, work(&noise).path(), 1).await;
    assert!(!pushed.client.status.success());
    assert!(pushed.said().contains("maximum allowed size"), "{}", pushed.said());
    assert_eq!(pushed.heard, "", "the hook never ran");
    let objects: Vec<_> = fs::read_dir(repository.join("objects"))
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(objects.len(), 2, "info and pack: {objects:?}");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_tool_and_all_that_it_started() {
    let platform = Platform::new();
    repository(&platform, app(1)).await;
    hooks(&platform, Some("echo hook-begins; (setsid sleep 54321 &); sleep 54321"));
    let folder = work(b"x");
    let (mut child, tool_in, tool_out) = client(folder.path(), &["push", "REMOTE", "main"]);
    let (_ours, hook) = UnixStream::pair().unwrap();
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let request = Request::Tool { tool: receive_pack(100) };
    let descriptors = [tool_in, tool_out, null, hook.into()];
    let session = platform.agent.session(&request, &descriptors).await.unwrap();
    drop(descriptors);
    let sleeps = || {
        let output = Command::new("pgrep").args(["-fc", "^sleep 54321"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
    };
    platform::eventually("the hook runs", || sleeps() == 2).await;
    drop(session);
    platform::eventually("all of it ends", || sleeps() == 0).await;
    assert!(!child.wait().unwrap().success());
}

#[tokio::test]
async fn a_killed_agent_takes_its_tools_along() {
    let mut platform = Platform::new();
    repository(&platform, app(1)).await;
    hooks(&platform, Some("sleep 65432"));
    let folder = work(b"x");
    let (mut child, tool_in, tool_out) = client(folder.path(), &["push", "REMOTE", "main"]);
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let request = Request::Tool { tool: receive_pack(100) };
    let descriptors = [tool_in, tool_out, null];
    let _session = platform.agent.session(&request, &descriptors).await.unwrap();
    drop(descriptors);
    let sleeps =
        || !Command::new("pgrep").args(["-f", "^sleep 65432"]).output().unwrap().stdout.is_empty();
    platform::eventually("the hook runs", sleeps).await;
    platform.kill_agent();
    platform::eventually("it ends with the agent", || !sleeps()).await;
    assert!(!child.wait().unwrap().success());
    platform.begin();
    no_leftovers(&platform);
}

#[tokio::test]
async fn upload_pack_serves_a_clone_and_writes_nothing() {
    let platform = Platform::new();
    let repository = repository(&platform, app(1)).await;
    let work = work(b"hello");
    git(&repository, &["fetch", "--quiet", work.path().to_str().unwrap(), "main:main"]);
    own(&repository, ids(&platform).await);
    let into = tempfile::tempdir().unwrap();
    let words =
        ["-c", "protocol.version=0", "clone", "--quiet", "REMOTE", "clone", "--branch", "main"];
    let (child, tool_in, tool_out) = client(into.path(), &words);
    let errors = memory(b"");
    let tool = Tool::UploadPack { app: app(1), stateless: false, advertise: false, version: 0 };
    let descriptors = [tool_in, tool_out, errors.try_clone().unwrap()];
    let reply = platform.call(&Request::Tool { tool }, &descriptors).await.unwrap();
    drop(descriptors);
    let client = child.wait_with_output().unwrap();
    assert!(
        client.status.success(),
        "{} {}",
        String::from_utf8_lossy(&client.stderr),
        text_of(errors)
    );
    assert!(matches!(reply, Reply::Exited(Exit { code: 0, .. })), "{reply:?}");
    assert_eq!(fs::read(into.path().join("clone/file")).unwrap(), b"hello");
}

#[tokio::test]
async fn http_advertisement_is_given_without_a_conversation() {
    let platform = Platform::new();
    repository(&platform, app(1)).await;
    hooks(&platform, None);
    let null = || -> OwnedFd { File::open("/dev/null").unwrap().into() };
    let (stateless, advertise) = (true, true);
    let receive =
        Tool::ReceivePack { app: app(1), stateless, advertise, version: 1, pack_mib_max: 10 };
    let upload = Tool::UploadPack { app: app(1), stateless, advertise, version: 2 };
    for (tool, said) in
        [(receive, ["version 1", "report-status"]), (upload, ["version 2", "ls-refs"])]
    {
        let output = memory(b"");
        let descriptors = [null(), output.try_clone().unwrap(), null()];
        let reply = platform.call(&Request::Tool { tool }, &descriptors).await.unwrap();
        assert!(matches!(reply, Reply::Exited(Exit { code: 0, .. })), "{reply:?}");
        let text = text_of(output);
        assert!(said.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[tokio::test]
async fn what_is_no_call_of_the_protocol_is_refused() {
    let platform = Platform::new();
    repository(&platform, app(1)).await;
    let null = || -> OwnedFd { File::open("/dev/null").unwrap().into() };
    let call = |tool: Tool, count: usize| {
        let descriptors: Vec<_> = (0..count).map(|_| null()).collect();
        let platform = &platform;
        async move { code(platform.call(&Request::Tool { tool }, &descriptors).await) }
    };
    let upload =
        |app, version| Tool::UploadPack { app, stateless: false, advertise: false, version };
    assert_eq!(call(upload(app(9), 0), 3).await, FailureCode::NotFound);
    assert_eq!(call(upload(app(1), 3), 3).await, FailureCode::Refused);
    assert_eq!(call(upload(app(1), 0), 2).await, FailureCode::Refused);
    assert_eq!(call(upload(app(1), 0), 4).await, FailureCode::Refused);
    assert_eq!(call(receive_pack(0), 4).await, FailureCode::Refused);
    assert_eq!(call(receive_pack(u32::MAX), 4).await, FailureCode::Refused);
}

#[tokio::test]
async fn the_compiler_gets_its_input_and_gives_its_output() {
    let platform = Platform::new();
    let berthd = platform.data.join("bin/test/berthd");
    fs::write(&berthd, "#!/bin/bash\necho \"$*\"; id -u; cat; echo warned >&2; exit 3\n").unwrap();
    fs::set_permissions(&berthd, fs::Permissions::from_mode(0o755)).unwrap();
    let (output, errors) = (memory(b""), memory(b""));
    let descriptors =
        [memory(b"component"), output.try_clone().unwrap(), errors.try_clone().unwrap()];
    let tool = Tool::Compile { engine: Engine::Apps };
    let reply = platform.call(&Request::Tool { tool }, &descriptors).await.unwrap();
    assert!(
        matches!(reply, Reply::Exited(Exit { code: 3, oom: false, timed_out: false, .. })),
        "{reply:?}"
    );
    assert_eq!(text_of(output), format!("compile apps\n{}\ncomponent", ids(&platform).await.tool));
    assert_eq!(text_of(errors), "warned\n");
}
