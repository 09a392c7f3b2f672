//! Who may speak to the router: root, the control id and the router's own, whatever the socket's
//! mode says. Needs root, to become someone else.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use berth_route::{Config, RouteError, RouterClient};
use rustix::process::Uid;

const CONTROL: u32 = 61_001;
const STRANGER: u32 = 61_002;

/// Connects as another user id, which only the thread that does it becomes.
fn connect_as(uid: u32, path: PathBuf) -> Result<(), RouteError> {
    std::thread::spawn(move || {
        let uid = Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("this test runs as root");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(RouterClient::connect(&path)).map(|_| ())
    })
    .join()
    .expect("the thread ends")
}

fn open_to_all(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("own file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_root_and_the_control_id_may_speak_to_the_router() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("route.sock");
    let control = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    open_to_all(folder.path(), 0o755);
    open_to_all(&path, 0o777);
    let http = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut config = Config::new(folder.path().join("route"), "/nonexistent", "test");
    config.control_uid = Some(CONTROL);
    let serving = tokio::spawn(berth_route::serve(
        config,
        control.into(),
        http.into(),
        std::future::pending(),
    ));
    let client = RouterClient::connect(&path).await.expect("root may");
    let answer = |uid| {
        let path = path.clone();
        tokio::task::spawn_blocking(move || connect_as(uid, path))
    };
    assert!(answer(CONTROL).await.expect("ends").is_ok());
    let refused = answer(STRANGER).await.expect("ends");
    assert!(matches!(refused, Err(RouteError::Closed)), "{refused:?}");
    client.drain().await.expect("the router is there");
    serving.await.expect("ends").expect("well");
}
