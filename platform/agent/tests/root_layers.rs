//! Layers by the agent: hostile tars in, build containers out. Needs root and busybox-static.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "root_agent/platform.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod platform;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use berth_blobs::Hashing;
use berth_blobs::tar::{Attributes, Caps, Kind, Reader, Rules, Writer};
use berth_container::{AgentError, FailureCode, Part, Reply, Request, Role};
use berth_model::Digest;
use platform::{Platform, app, code, memory, shell};

fn digest(bytes: &[u8]) -> Digest {
    let mut hashing = Hashing::new(bytes);
    std::io::copy(&mut hashing, &mut std::io::sink()).unwrap();
    hashing.finish().1
}

async fn unpack_as(platform: &Platform, bytes: &[u8], diff_id: Digest) -> Result<(), AgentError> {
    let request = Request::LayerUnpack { diff_id };
    platform.call(&request, &[memory(bytes)]).await.map(|reply| assert_eq!(reply, Reply::Done {}))
}

async fn unpack(platform: &Platform, bytes: &[u8]) -> Result<(), AgentError> {
    unpack_as(platform, bytes, digest(bytes)).await
}

fn tree(platform: &Platform, bytes: &[u8]) -> PathBuf {
    platform.data.join("trees").join(digest(bytes).hex())
}

/// Nothing but whole trees, and what the agent writes down of them.
fn nothing_half_made(platform: &Platform) {
    for entry in fs::read_dir(platform.data.join("trees")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(".new"), "{name} is left");
    }
    assert_eq!(platform.memory_group("confined"), None);
}

/// An entry that no careful writer would make.
fn crafted(name: &str, kind: tar::EntryType, link: &str, mode: u32, uid: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(uid);
    header.set_gid(uid);
    header.set_size(0);
    header.set_device_major(7).unwrap();
    header.set_device_minor(0).unwrap();
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b""[..]).unwrap();
    builder.into_inner().unwrap()
}

fn layer() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Rules::Stack);
    let of = |uid, mode| Attributes { mode, uid, gid: uid };
    writer.directory(b"data", of(1000, 0o755)).unwrap();
    writer.file(b"data/mine", of(1000, 0o640), 5, &b"hello"[..]).unwrap();
    writer.file(b"data/theirs", of(65_535, 0o755), 0, &b""[..]).unwrap();
    writer.symlink(b"data/where", b"/etc/passwd", of(0, 0o777)).unwrap();
    writer.finish().unwrap().0
}

#[tokio::test]
async fn a_layer_is_stored_with_its_owners_and_seen_shifted_in_a_container() {
    let platform = Platform::new();
    let bytes = layer();
    unpack(&platform, &bytes).await.unwrap();
    let tree = tree(&platform, &bytes);
    for (path, uid, mode) in
        [("data/mine", 1000, 0o640), ("data/theirs", 65_535, 0o755), ("data", 1000, 0o755)]
    {
        let found = fs::metadata(tree.join(path)).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (uid, uid, mode), "{path}");
        assert_eq!(found.mtime() as u64, berth_blobs::tar::MTIME_S, "{path}");
    }
    assert_eq!(fs::symlink_metadata(tree.join("data/where")).unwrap().uid(), 0);
    let Reply::Layers { diff_ids } = platform.call(&Request::LayerList, &[]).await.unwrap() else {
        panic!("no list")
    };
    assert!(diff_ids.contains(&digest(&bytes)) && diff_ids.len() == 2, "{diff_ids:?}");
    let add = |start: &mut berth_container::Start| start.layers.push(digest(&bytes));
    let (exit, text) =
        platform.script(add, "cat /data/mine; stat -c %u /data/mine /data/theirs").await;
    assert_eq!(exit.code, 0, "{text}");
    assert!(text.starts_with("hello1000\n65535\n"), "{text}");
    nothing_half_made(&platform);
}

#[tokio::test]
async fn unpacking_twice_and_at_once_gives_one_tree() {
    let platform = Platform::new();
    let bytes = layer();
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let (agent, file) = (platform.agent.clone(), memory(&bytes));
            let request = Request::LayerUnpack { diff_id: digest(&bytes) };
            tokio::spawn(async move { agent.call(&request, &[file]).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().0, Reply::Done {});
    }
    unpack_as(&platform, b"not even read", digest(&bytes)).await.unwrap();
    assert_eq!(fs::read(tree(&platform, &bytes).join("data/mine")).unwrap(), b"hello");
    nothing_half_made(&platform);
}

#[tokio::test]
async fn a_tar_of_another_digest_leaves_nothing() {
    let platform = Platform::new();
    let other = Digest::from_sha256([9; 32]);
    let outcome = unpack_as(&platform, &layer(), other).await;
    assert_eq!(code(outcome), FailureCode::Invalid);
    assert!(!platform.data.join("trees").join(other.hex()).exists());
    nothing_half_made(&platform);
}

#[tokio::test]
async fn hostile_tars_are_refused_with_the_entry_and_leave_nothing() {
    use tar::EntryType as T;
    let platform = Platform::new();
    for (bytes, said) in [
        (crafted("dev/loop0", T::Block, "", 0o666, 0), "'dev/loop0' is a device"),
        (crafted("dev/tty", T::Char, "", 0o666, 0), "'dev/tty' is a device"),
        (crafted("run/pipe", T::Fifo, "", 0o666, 0), "'run/pipe' is a FIFO"),
        (crafted("../escaped", T::Regular, "", 0o644, 0), "'../escaped' is refused"),
        (crafted("/etc/cron.d/x", T::Regular, "", 0o644, 0), "'/etc/cron.d/x' is refused"),
        (
            crafted("shadow", T::Link, "../../../../etc/shadow", 0, 0),
            "'../../../../etc/shadow' is refused",
        ),
        (crafted("a/.wh.b", T::Regular, "", 0, 0), "'a/.wh.b' is a whiteout"),
        (crafted("a/.wh..wh..opq", T::Regular, "", 0, 0), "'a/.wh..wh..opq' is a whiteout"),
        (crafted("big", T::Regular, "", 0o644, 65_536), "its numeric owner is too large"),
        (vec![1; 5000], "damaged"),
        (Vec::new(), "damaged"),
    ] {
        let outcome = unpack(&platform, &bytes).await;
        let Err(AgentError::Failed { code, message }) = outcome else {
            panic!("{said}: {outcome:?}")
        };
        assert!(message.contains(said), "{said}: {message}");
        assert_eq!(code, FailureCode::Invalid, "{message}");
        assert!(!tree(&platform, &bytes).exists(), "{said}");
    }
    nothing_half_made(&platform);
}

#[tokio::test]
async fn nothing_is_written_through_a_link_and_no_setuid_bit_survives() {
    use tar::EntryType as T;
    let platform = Platform::new();
    let outside = platform.data.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    let link = crafted("link", T::Symlink, &"../".repeat(12), 0o777, 0);
    let through = crafted("link/tmp/x", T::Regular, "", 0o644, 0);
    let bytes = [&link[..512], &through[..]].concat();
    let Err(AgentError::Failed { message, .. }) = unpack(&platform, &bytes).await else {
        panic!("it followed the link")
    };
    assert!(message.contains("cannot make 'link/tmp/x'"), "{message}");
    let setuid = crafted("su", T::Regular, "", 0o6755, 0);
    unpack(&platform, &setuid).await.unwrap();
    let mode = fs::metadata(tree(&platform, &setuid).join("su")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_unpacking() {
    let platform = Platform::new();
    let (read, write) = rustix::pipe::pipe().unwrap();
    let diff_id = Digest::from_sha256([3; 32]);
    let session = platform.agent.session(&Request::LayerUnpack { diff_id }, &[read]).await.unwrap();
    let mut write = fs::File::from(write);
    write.write_all(&layer()[..1024]).unwrap();
    let fresh = platform.data.join("trees").join(format!(".new-{}", diff_id.hex()));
    platform::eventually("it begins", || fresh.join("data").exists()).await;
    drop(session);
    platform::eventually("it is cleared away", || !fresh.exists()).await;
    nothing_half_made(&platform);
}

#[tokio::test]
async fn collection_removes_trees_that_nobody_names_or_uses() {
    let platform = Platform::new();
    let (named, stale, used) = (
        layer(),
        crafted("s", tar::EntryType::Regular, "", 0o644, 0),
        crafted("u", tar::EntryType::Regular, "", 0o644, 0),
    );
    for bytes in [&named, &stale, &used] {
        unpack(&platform, bytes).await.unwrap();
    }
    let mut start = platform.request(app(1), Role::Run);
    start.layers.push(digest(&used));
    let running = platform.start(start, &shell("sleep 60")).await.unwrap();
    let live = berth_container::Live { layers: vec![digest(&named)], ..Default::default() };
    let list = memory(&serde_json::to_vec(&live).unwrap());
    assert_eq!(platform.call(&Request::Gc, &[list]).await.unwrap(), Reply::Done {});
    assert!(tree(&platform, &named).exists() && tree(&platform, &used).exists());
    assert!(!tree(&platform, &stale).exists());
    platform.stop(running.instance, 0).await.unwrap();
}

#[tokio::test]
async fn trees_that_may_not_have_reached_the_disk_are_dropped_after_the_machine_stopped() {
    let mut platform = Platform::new();
    let (safe, lost) = (layer(), crafted("lost", tar::EntryType::Regular, "", 0o644, 0));
    unpack(&platform, &safe).await.unwrap();
    unpack(&platform, &lost).await.unwrap();
    let trees = platform.data.join("trees");
    let mark = |bytes: &[u8]| trees.join(".written").join(digest(bytes).hex());
    platform::eventually("both are written out", || mark(&safe).exists() && mark(&lost).exists())
        .await;
    platform.kill_agent();
    fs::remove_file(mark(&lost)).unwrap();
    fs::create_dir(trees.join(".new-half")).unwrap();
    fs::write(trees.join(".boot"), "another boot\n").unwrap();
    platform.begin();
    assert!(tree(&platform, &safe).exists() && !tree(&platform, &lost).exists());
    nothing_half_made(&platform);
}

/// Starts a build container and runs a script in it.
async fn build(platform: &Platform, script: &str) -> platform::Started {
    let request = platform.request(app(1), Role::Build);
    let started = platform.start(request, &shell("")).await.unwrap();
    let (exit, text) = platform.exec(started.instance, script).await;
    assert_eq!(exit.code, 0, "{text}");
    started
}

async fn seal(
    platform: &Platform,
    instance: berth_model::InstanceId,
    part: Part,
) -> Result<(Vec<u8>, u64), AgentError> {
    let archive = memory(b"");
    let sent = archive.try_clone().unwrap();
    match platform.call(&Request::LayerSeal { instance, part }, &[sent]).await? {
        Reply::Sealed { bytes, entries } => {
            let mut file = fs::File::from(archive);
            std::io::Seek::rewind(&mut file).unwrap();
            let mut read = Vec::new();
            file.read_to_end(&mut read).unwrap();
            assert_eq!(read.len() as u64, bytes);
            Ok((read, entries))
        }
        reply => panic!("{reply:?}"),
    }
}

fn entries(bytes: &[u8]) -> Vec<(String, Kind, u32, u32)> {
    let mut reader = Reader::new(bytes, Caps::LAYER);
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let path = String::from_utf8(entry.path.clone()).unwrap();
        found.push((path, entry.kind.clone(), entry.mode, entry.uid));
    }
    found
}

#[tokio::test]
async fn a_sealed_workspace_is_canonical_and_unpacks_again() {
    let platform = Platform::new();
    let script = "cd /workspace && umask 077 && mkdir -p b/c && echo hi > b/c/f && chmod 500 b/c/f && \
                  echo no > secret && chmod 000 secret && ln -s /nowhere link && touch b-a && ln b/c/f hard";
    let started = build(&platform, script).await;
    let (bytes, count) = seal(&platform, started.instance, Part::Workspace).await.unwrap();
    let file = |size| Kind::File { size };
    assert_eq!(
        entries(&bytes),
        [
            ("workspace".into(), Kind::Directory, 0o755, 1000),
            ("workspace/b-a".into(), file(0), 0o644, 1000),
            ("workspace/b".into(), Kind::Directory, 0o755, 1000),
            ("workspace/b/c".into(), Kind::Directory, 0o755, 1000),
            ("workspace/b/c/f".into(), file(3), 0o755, 1000),
            ("workspace/hard".into(), file(3), 0o755, 1000),
            ("workspace/link".into(), Kind::Symlink { target: b"/nowhere".to_vec() }, 0o777, 1000),
            ("workspace/secret".into(), file(3), 0o644, 1000),
        ]
    );
    assert_eq!(count, 8);
    let again = seal(&platform, started.instance, Part::Workspace).await.unwrap().0;
    assert_eq!(digest(&again), digest(&bytes));
    platform.stop(started.instance, 0).await.unwrap();
    unpack(&platform, &bytes).await.unwrap();
    let add = |start: &mut berth_container::Start| start.layers.push(digest(&bytes));
    let (_, text) = platform
        .script(add, "cat /workspace/b/c/f /workspace/secret; echo x > /workspace/new && echo ok")
        .await;
    assert!(text.starts_with("hi\nno\nok\n"), "{text}");
    nothing_half_made(&platform);
}

#[tokio::test]
async fn a_sealed_layer_is_that_directory_alone() {
    let platform = Platform::new();
    let script = "mkdir -p /layers/python/venv/bin /layers/python/other && echo x > /layers/python/venv/bin/run";
    let started = build(&platform, script).await;
    let part = |layer: &str| Part::Layer {
        buildpack: "python".parse().unwrap(),
        layer: layer.parse().unwrap(),
    };
    let (bytes, _) = seal(&platform, started.instance, part("venv")).await.unwrap();
    let paths: Vec<_> = entries(&bytes).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(
        paths,
        [
            "layers",
            "layers/python",
            "layers/python/venv",
            "layers/python/venv/bin",
            "layers/python/venv/bin/run"
        ]
    );
    let missing = seal(&platform, started.instance, part("none")).await;
    assert_eq!(code(missing), FailureCode::NotFound);
    platform.stop(started.instance, 0).await.unwrap();
}

#[tokio::test]
async fn sealing_follows_no_link_waits_for_no_pipe_and_names_what_cannot_be_in_an_image() {
    let platform = Platform::new();
    let started = build(
        &platform,
        "mkdir /layers/a && ln -s /etc /layers/a/etc; mkdir /layers/b /layers/b/odd",
    )
    .await;
    let part = |buildpack: &str, layer: &str| Part::Layer {
        buildpack: buildpack.parse().unwrap(),
        layer: layer.parse().unwrap(),
    };
    let linked = seal(&platform, started.instance, part("a", "etc")).await;
    assert_eq!(code(linked), FailureCode::Machine, "a link in the place of a layer");
    // Nothing of busybox binds a socket to a path, but its cpio makes what an archive says.
    let socket = "rm /layers/b/odd/pipe; cd /layers/b/odd; o=00000000; \
        n=\"$o${o}00000001$o$o$o$o$o$o\"; \
        printf \"070701${o}0000c1b6${n}00000005${o}sock\\000\\000070701$o$o${n}0000000b${o}TRAILER!!!\\0\\0\\0\\0\" \
        | cpio -i && test -S sock";
    for (script, said) in [
        ("mkfifo /layers/b/odd/pipe", "/layers/b/odd/pipe is a FIFO"),
        (socket, "/layers/b/odd/sock is a socket"),
        ("rm /layers/b/odd/sock; touch '/layers/b/odd/.wh.x'", "'.wh.'"),
        (
            "rm /layers/b/odd/.wh.x; mkdir -p $(seq -s /d 110 | sed 's,^,/layers/b/odd/,')",
            "deeper than 100",
        ),
        ("rm -r /layers/b/odd/*; truncate -s 5G /layers/b/odd/sparse", "larger than 4096 MiB"),
    ] {
        let (exit, text) = platform.exec(started.instance, script).await;
        assert_eq!(exit.code, 0, "{script}: {text}");
        let outcome = seal(&platform, started.instance, part("b", "odd")).await;
        let Err(AgentError::Failed { message, .. }) = outcome else {
            panic!("{said}: {:?}", outcome.map(|o| o.1))
        };
        assert!(message.contains(said), "{said}: {message}");
    }
    platform.stop(started.instance, 0).await.unwrap();
    nothing_half_made(&platform);
}

#[tokio::test]
async fn sealing_waits_for_no_process_and_reads_no_instance() {
    let platform = Platform::new();
    let started = build(&platform, "true").await;
    let payload = memory(&serde_json::to_vec(&shell("touch /tmp/on; sleep 60")).unwrap());
    let null = || -> OwnedFd { fs::File::open("/dev/null").unwrap().into() };
    let request = Request::Exec { instance: started.instance, tty: None, time_ms_max: 60_000 };
    let session =
        platform.agent.session(&request, &[payload, null(), null(), null()]).await.unwrap();
    let on = "test -e /tmp/on";
    while platform.exec(started.instance, on).await.0.code != 0 {}
    let busy = seal(&platform, started.instance, Part::Workspace).await;
    let Err(AgentError::Failed { code, message }) = busy else { panic!("it was not refused") };
    assert_eq!(code, FailureCode::Conflict, "{message}");
    drop(session);
    let instance = platform.instance(app(2), "sleep 60").await;
    let outcome = seal(&platform, instance.instance, Part::Workspace).await;
    assert_eq!(platform::code(outcome), FailureCode::Refused);
    let unknown = seal(&platform, platform::instance_id(), Part::Workspace).await;
    assert_eq!(platform::code(unknown), FailureCode::NotFound);
}
