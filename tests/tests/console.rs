//! The console in a real browser, on the real programs. What is done there stands in `web/e2e`; here
//! the platform is started, and killed and started again when they ask for it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use acceptance::Platform;
use acceptance::platform::programs;

/// What runs the steps, ended also where the test fails before it does.
struct Steps(Child);

impl Drop for Steps {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn people_use_the_console_in_a_browser() {
    let mut platform = Platform::start();
    let control = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = control.local_addr().unwrap().port();
    let artifacts = programs().parent().unwrap().to_owned();
    let child = Command::new("node")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../web"))
        .args(["node_modules/@playwright/test/cli.js", "test"])
        .env("BERTH_API", format!("http://{}", platform.api))
        .env("BERTH_ROUTER_PORT", platform.http.port().to_string())
        .env("BERTH_TOKEN", &platform.token)
        .env("BERTH_CONTROL", port.to_string())
        .env("BERTH_ARTIFACTS", artifacts)
        .env("BERTH_PROGRAMS", programs())
        .spawn()
        .expect("node starts: `cargo xtask web` installs what it needs");
    let status = serve(&mut platform, &control, port, Steps(child));
    assert!(status.success(), "the steps in web/e2e failed: {status}");
}

/// Does what is asked, until the steps are over.
fn serve(
    platform: &mut Platform,
    control: &TcpListener,
    port: u16,
    mut steps: Steps,
) -> ExitStatus {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let status = steps.0.wait().expect("its end");
            let mut end = TcpStream::connect(("127.0.0.1", port)).expect("the control");
            end.write_all(b"end\n").expect("the control");
            status
        });
        for stream in control.incoming() {
            let mut stream = stream.expect("a connection");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a line");
            let done = match line.trim() {
                "kill" => {
                    platform.kill();
                    Ok(())
                }
                "serve" => platform.serve(),
                _ => break,
            };
            let answer = match done {
                Ok(()) => "ok\n".to_owned(),
                Err(error) => format!("{error:#}\n"),
            };
            stream.write_all(answer.as_bytes()).expect("an answer");
        }
        waiting.join().expect("the steps")
    })
}
