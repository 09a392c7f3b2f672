//! Who may do what, and what a connection is not.

use std::time::Duration;

use berth_model::Role;
use berth_push::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, Said, make_key};
use crate::host::caller;
use crate::world::{BOTH, Over, World};

async fn ssh(world: &World, client: &Client, before: &[&str], command: &[&str]) -> Said {
    let mut words = client.ssh().split_whitespace();
    let mut ssh = client.command(words.next().unwrap());
    ssh.args(words).args(before).args(["-p", &world.ssh.port().to_string(), "git@127.0.0.1"]);
    client.said(ssh.args(command)).await
}

async fn http(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.http).await.unwrap();
    let request = format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_has_registered_is_refused() {
    let world = World::new().await;
    let mut client = world.client();
    client.commit("a", "1");
    let key = client.home().join("stranger");
    make_key(&key);
    client.use_key(&key);
    let said = client.push(&world, Over::Ssh, "main").await;
    assert!(!said.ok && said.err.contains("Permission denied (publickey)"), "{said:?}");
    assert_eq!(world.host.app("hello"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_and_none_are_refused_and_creates_no_app() {
    let world = World::new().await;
    let client = world.client();
    client.commit("a", "1");
    let port = world.http.port();
    for user in ["", "x:wrong@", "x@", ":@"] {
        let url = format!("http://{user}127.0.0.1:{port}/git/hello.git");
        let said = client.git(&["push", &url, "main"]).await;
        assert!(!said.ok, "{user}: {said:?}");
    }
    assert_eq!(world.host.app("hello"), None);
    let answer =
        http(&world, "GET /git/hello.git/info/refs?service=git-receive-pack HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(answer.to_lowercase().contains("www-authenticate: basic realm=\"berth\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_another_team_reads_as_missing_and_a_viewer_may_only_fetch() {
    for over in BOTH {
        let world = World::new().await;
        let mut client = world.client();
        client.commit("a", "1");
        client.pushes(&world, over, "main").await;

        world.host.set_foreign("secret");
        for name in ["secret", "missing"] {
            let said = client.git(&["fetch", &world.url(over, name)]).await;
            assert!(!said.ok, "{said:?}");
            assert!(said.err.contains(&format!("There is no app '{name}'.")), "{over:?}: {said:?}");
        }

        let key = client.home().join("viewer");
        make_key(&key);
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        world.host.know_key(&public, caller("viewer", Role::Viewer));
        client.use_key(&key);
        let url = world.url(over, "hello").replace(crate::host::TOKEN, "viewer");
        client.commit("a", "2");
        let said = client.git(&["push", &url, "main"]).await;
        assert!(
            !said.ok && said.err.contains("viewer may not deploy 'hello'"),
            "{over:?}: {said:?}"
        );
        assert!(client.git(&["fetch", "--quiet", &url, "main"]).await.ok);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_valid_is_explained() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        let said = client.git(&["push", &world.url(over, "Not_Valid"), "main"]).await;
        assert!(!said.ok && said.err.contains("'Not_Valid' is not a valid app name"), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_gives_no_shell_no_other_command_no_terminal_and_no_forwarding() {
    let world = World::new().await;
    let client = world.client();
    for command in [
        "ls",
        "git-receive-pack 'a'; id",
        "git-upload-archive 'a'",
        "scp -t /",
        "git-receive-pack '../a'",
    ] {
        let said = ssh(&world, &client, &[], &[command]).await;
        assert!(!said.ok && said.out.is_empty(), "{command}: {said:?}");
        assert!(said.err.contains("there is no shell here"), "{command}: {said:?}");
    }
    let said = ssh(&world, &client, &["-tt"], &[]).await;
    assert!(!said.ok && said.err.contains("PTY allocation request failed"), "{said:?}");
    let said = ssh(&world, &client, &["-T"], &[]).await;
    assert!(!said.ok && said.err.contains("Hello developer. This is Berth's git"), "{said:?}");
    let said = ssh(&world, &client, &["-s"], &["sftp"]).await;
    assert!(said.err.contains("subsystem request failed"), "{said:?}");
    let inner = format!("127.0.0.1:{}", world.http.port());
    let said = ssh(&world, &client, &["-W", &inner], &[]).await;
    assert!(!said.ok && said.err.contains("administratively prohibited"), "{said:?}");
    let forward = format!("0:{inner}");
    let said =
        ssh(&world, &client, &["-o", "ExitOnForwardFailure=yes", "-N", "-R", &forward], &[]).await;
    assert!(!said.ok && said.err.contains("remote port forwarding failed"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_offers_public_keys_alone_and_counts_the_tries() {
    let world = World::new().await;
    let client = world.client();
    let passwords = ["-o", "PreferredAuthentications=password,keyboard-interactive"];
    let said = ssh(&world, &client, &passwords, &["ls"]).await;
    assert!(said.err.contains("Permission denied (publickey)"), "{said:?}");
    // The good key comes fourth.
    let mut before = Vec::new();
    for n in 0..3 {
        let key = client.home().join(format!("stranger{n}"));
        make_key(&key);
        before.push(format!("-i{}", key.display()));
    }
    let mut words = client.ssh().split_whitespace();
    let mut command = client.command(words.next().unwrap());
    command.args(&before).args(words).args([
        "-p",
        &world.ssh.port().to_string(),
        "git@127.0.0.1",
        "ls",
    ]);
    let said = client.said(&mut command).await;
    assert!(said.err.contains("Too many authentication attempts"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_log_in_is_closed_and_too_many_are_not_let_in() {
    let limits =
        Limits { login_max: Duration::from_secs(2), strangers_max: 2, ..Limits::default() };
    let world = World::with(limits).await;
    let mut silent = TcpStream::connect(world.ssh).await.unwrap();
    let mut greeted = TcpStream::connect(world.ssh).await.unwrap();
    greeted.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    let mut third = TcpStream::connect(world.ssh).await.unwrap();
    let mut bytes = Vec::new();
    third.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.is_empty(), "the third gets no greeting");
    // Both are closed by the server; how does not matter.
    let _ = silent.read_to_end(&mut bytes).await;
    let _ = greeted.read_to_end(&mut bytes).await;
    assert!(bytes.starts_with(b"SSH-2.0-Berth\r\n"));

    // Places are free again.
    let client = world.client();
    client.commit("a", "1");
    client.pushes(&world, Over::Ssh, "main").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dumb_protocol_and_other_services_are_refused() {
    let world = World::new().await;
    let authorization = "Authorization: Basic eDpiZXJ0aF90ZXN0X3Rva2Vu";
    for (path, status) in [
        ("/git/hello.git/info/refs", "403"),
        ("/git/hello.git/info/refs?service=git-upload-archive", "403"),
        ("/git/hello.git/HEAD", "404"),
        ("/git/hello.git/objects/info/packs", "404"),
        ("/git/hello.git/git-receive-pack", "405"),
    ] {
        let answer = http(&world, &format!("GET {path} HTTP/1.1\r\n{authorization}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    let path = "/git/hello.git/info/refs?service=git-receive-pack";
    let answer = http(&world, &format!("GET {path} HTTP/1.1\r\n{authorization}")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("cache-control: no-cache, max-age=0, must-revalidate"), "{answer}");
    assert!(answer.contains("001f# service=git-receive-pack"), "{answer}");
}
