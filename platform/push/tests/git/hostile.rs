//! Bytes that no client sends.

use std::os::unix::fs::PermissionsExt;

use berth_push::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Over, World};

const ZERO: &str = "0000000000000000000000000000000000000000";

fn line(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

/// Sends a request body as `git push` over HTTP does, and gives the whole answer.
async fn post(world: &World, body: &[u8], headers: &str) -> String {
    let mut stream = TcpStream::connect(world.http).await.unwrap();
    let head = format!(
        "POST /git/hello.git/git-receive-pack HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Basic eDpiZXJ0aF90ZXN0X3Rva2Vu\r\n\
         Content-Type: application/x-git-receive-pack-request\r\n\
         Content-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A refusal may come before the whole body is sent.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn commands(refs: &[&str], id: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (at, name) in refs.iter().enumerate() {
        let features = if at == 0 { "\0report-status side-band-64k" } else { "" };
        body.extend(line(&format!("{ZERO} {id} {name}{features}")));
    }
    body.extend(b"0000");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_pack_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let id = "1111111111111111111111111111111111111111";
    let mut cut = b"PACK\0\0\0\x02\0\0\0\x01".to_vec();
    cut.extend(b"\x95\x0ax\x9c");
    for pack in [&b"PACK garbage"[..], b"", &cut, &[0xff; 4096]] {
        let mut body = commands(&["refs/heads/main"], id);
        body.extend_from_slice(pack);
        let answer = post(&world, &body, "").await;
        assert!(answer.contains("unpack") && answer.contains("ng refs/heads/main"), "{answer}");
        assert!(world.host.pushed().is_empty());
        assert_eq!(world.branch("hello", "main"), None);
    }
    let app = world.host.app("hello").unwrap();
    let objects = world.folder.path().join(format!("git/{app}.git/objects"));
    let left: Vec<_> = std::fs::read_dir(objects.join("pack")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(std::fs::read_dir(objects).unwrap().count(), 2, "info and pack");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_did_not_arrive_is_refused() {
    let world = World::new().await;
    let client = world.client();
    client.commit("a", "1");
    client.pushes(&world, Over::Http, "main").await;
    let packing = client.command("git").args(["pack-objects", "--stdout", "-q"]).output().await;
    let empty = packing.unwrap().stdout;
    let mut body = commands(&["refs/heads/other"], "1111111111111111111111111111111111111111");
    body.extend(empty);
    let answer = post(&world, &body, "").await;
    assert!(answer.contains("ng refs/heads/other missing necessary objects"), "{answer}");
    assert_eq!(world.branch("hello", "other"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_refs_and_other_refs_are_refused() {
    let world = World::with(Limits { refs_max: 40, ..Limits::default() }).await;
    let client = world.client();
    client.commit("a", "1");
    let url = world.url(Over::Ssh, "hello");
    assert!(client.git(&["push", &url, "main"]).await.ok);
    for name in ["refs/notes/x", "refs/for/main", "refs/heads"] {
        let said = client.git(&["push", &url, &format!("HEAD:{name}/x")]).await;
        let expected = name == "refs/heads";
        assert_eq!(said.ok, expected, "{name}: {said:?}");
        assert_eq!(
            said.err.contains("only branches and tags can be pushed"),
            !expected,
            "{said:?}"
        );
    }
    let tags = |from: usize, count: usize| -> Vec<String> {
        (from..from + count).map(|n| format!("HEAD:refs/tags/t{n}")).collect()
    };
    let push = async |refs: Vec<String>| {
        let mut arguments = vec!["push", url.as_str()];
        arguments.extend(refs.iter().map(String::as_str));
        client.git(&arguments).await
    };
    let said = push(tags(0, 33)).await;
    assert!(
        !said.ok && said.err.contains("at most 32 refs can be updated in one push"),
        "{said:?}"
    );
    assert!(push(tags(0, 32)).await.ok);
    let said = push(tags(32, 10)).await;
    assert!(!said.ok && said.err.contains("the repository has 40 refs, the limit"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_the_limit_and_a_gzip_bomb_are_refused() {
    let world = World::with(Limits { pack_mib_max: 1, ..Limits::default() }).await;
    let answer = post(&world, &vec![b'x'; 2 << 20], "").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let client = world.client();
    // Random enough that packing does not make it small.
    let bytes: Vec<u8> = (0..3_000_000_u64)
        .map(|n| {
            (n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(n | 1) >> 56) as u8
        })
        .collect();
    std::fs::write(client.work.join("big"), bytes).unwrap();
    client.commit_all("big");
    for over in crate::world::BOTH {
        let said = client.push(&world, over, "main").await;
        assert!(!said.ok, "{over:?}: {said:?}");
        assert!(world.host.pushed().is_empty());
    }
    let said = client.push(&world, Over::Ssh, "main").await;
    assert!(said.err.contains("pack exceeds maximum allowed size"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_is_swept() {
    let world = World::new().await;
    let client = world.client();
    client.commit("a", "1");
    client.pushes(&world, Over::Ssh, "main").await;
    let app = world.host.app("hello").unwrap();
    let repository = world.folder.path().join(format!("git/{app}.git"));
    let stale = [
        "objects/tmp_objdir-incoming-abc123/pack/tmp_pack_x",
        "objects/pack/tmp_pack_y",
        "refs/heads/main.lock",
        "HEAD.lock",
        "../app_half.new/config",
    ];
    for path in stale {
        let path = repository.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    assert_eq!(world.repositories.sweep().unwrap(), stale.len());
    assert!(stale.iter().all(|path| !repository.join(path).exists()));
    client.commit("a", "2");
    client.pushes(&world, Over::Ssh, "main").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_are_readable_for_the_tool_and_not_writable() {
    let world = World::new().await;
    let client = world.client();
    client.commit("a", "1");
    let url = world.url(Over::Ssh, "hello");
    assert!(client.git(&["push", &url, "main", "main:a/b/c"]).await.ok);
    let app = world.host.app("hello").unwrap();
    let repository = world.folder.path().join(format!("git/{app}.git"));
    for (path, mode) in [
        ("", 0o3770),
        ("config", 0o640),
        ("HEAD", 0o640),
        ("refs/heads", 0o2750),
        ("refs/heads/a/b", 0o2750),
        ("refs/heads/a/b/c", 0o640),
        ("refs/heads/main", 0o640),
        ("objects", 0o3770),
        ("objects/pack", 0o3770),
    ] {
        let found = std::fs::metadata(repository.join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{path}: {found:o}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pushes_leave_few_packs_where_git_may_clean_up() {
    let world = World::new().await;
    let client = world.client();
    client.commit("a", "0");
    client.pushes(&world, Over::Ssh, "main").await;
    let app = world.host.app("hello").unwrap();
    let repository = world.folder.path().join(format!("git/{app}.git"));
    let config = repository.join("config");
    client.now(&["config", "--file", config.to_str().unwrap(), "gc.autoPackLimit", "2"]);
    for n in 1..5 {
        client.commit("a", &n.to_string());
        client.pushes(&world, Over::Ssh, "main").await;
    }
    let packs = std::fs::read_dir(repository.join("objects/pack")).unwrap().filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "pack")
    });
    let count = packs.count();
    assert!(count <= 3, "{count} packs");
    let said = client.git(&["clone", "--quiet", &world.url(Over::Http, "hello"), "copy"]).await;
    assert!(said.ok, "{said:?}");
    assert_eq!(client.now(&["-C", "copy", "rev-list", "--count", "HEAD"]), "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_gits_protocol_is_the_clients_fault() {
    let world = World::new().await;
    for body in [&b"zzzz this is no pkt-line"[..], b"0003", b"0005", &[0; 64]] {
        let answer = post(&world, body, "").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert!(answer.contains("not of git's protocol"), "{answer}");
    }
    assert!(world.host.pushed().is_empty());
    // Commands that the hook cannot answer one by one are refused with a reason.
    let id = "1111111111111111111111111111111111111111";
    let answer = post(&world, &commands(&["refs/heads/\u{7}bell"], id), "").await;
    assert!(answer.contains("ng refs/heads/") || answer.contains("control characters"), "{answer}");
}
