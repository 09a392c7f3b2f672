//! Time.

use std::time::Duration;

use berth_push::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_in_the_middle_of_a_pack_is_cut_off() {
    let idle = Limits { idle_max: Duration::from_millis(300), ..Limits::default() };
    let slow = Limits { transfer_max: Duration::from_millis(300), ..Limits::default() };
    for limits in [idle, slow] {
        let world = World::with(limits).await;
        let mut stream = TcpStream::connect(world.http).await.unwrap();
        let request = "POST /git/hello.git/git-receive-pack HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Basic eDpiZXJ0aF90ZXN0X3Rva2Vu\r\nContent-Length: 1000\r\n\r\n\
             00b8";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer));
        read.await.expect("an answer within 10 s").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_connection_without_a_command_is_closed() {
    let world =
        World::with(Limits { idle_max: Duration::from_millis(300), ..Limits::default() }).await;
    let client = world.client();
    let mut words = client.ssh().split_whitespace();
    let mut ssh = client.command(words.next().unwrap());
    ssh.args(words).args(["-N", "-p", &world.ssh.port().to_string(), "git@127.0.0.1"]);
    let said = client.said(&mut ssh).await;
    assert!(!said.ok, "{said:?}");
}
