//! `berth run` and `berth exec`, driven as shells and people drive them.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acceptance::platform::programs;
use acceptance::{Platform, Repository, wait_for};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{LocalModes, tcgetattr, tcsetwinsize};

fn site() -> Platform {
    let platform = Platform::start();
    Repository::of_sample("static-site").deploy(&platform, "site");
    platform
}

fn berth(platform: &Platform, arguments: &[&str]) -> Command {
    platform.command(&platform.token, arguments)
}

/// Feeds and reads a command at the same time; it must end within a minute.
fn piped(command: &mut Command, input: Vec<u8>) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        // A command that does not read all of it is none of this thread's business.
        let _ = stdin.write_all(&input);
    });
    let pid = child.id();
    let (tell, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(60)).is_err() {
            let _ = kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    let _ = tell.send(());
    feeding.join().unwrap();
    assert_ne!(output.status.signal(), Some(9), "it did not end within a minute");
    output
}

/// States of the app's one-off commands.
fn runs(platform: &Platform) -> Vec<String> {
    let answer: serde_json::Value = reqwest::blocking::Client::new()
        .get(format!("http://{}/v1/apps/site/runs", platform.api))
        .bearer_auth(&platform.token)
        .send()
        .unwrap()
        .json()
        .unwrap();
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|run| run["state"].as_str().unwrap().to_owned()).collect()
}

fn wait_for_no_run(platform: &Platform) {
    wait_for("the command's end on the platform", 30, || {
        runs(platform).iter().all(|state| state == "stopped" || state == "failed").then_some(())
    });
}

fn wait_for_end(child: &mut Child) -> std::process::ExitStatus {
    wait_for("the end of berth", 20, || child.try_wait().unwrap())
}

#[test]
fn megabytes_piped_through_a_command_come_back_byte_for_byte_with_its_exit_code() {
    let platform = site();
    let mut state = 7_u64;
    let noise: Vec<u8> = (0..12 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            (state >> 56) as u8
        })
        .collect();
    for arguments in [
        &["run", "--app", "site", "sh", "-c", "cat; echo said >&2; exit 42"][..],
        &["exec", "--app", "site", "web.1", "sh", "-c", "cat; echo said >&2; exit 42"],
    ] {
        let output = piped(&mut berth(&platform, arguments), noise.clone());
        assert!(output.stdout == noise, "{arguments:?}: {} bytes", output.stdout.len());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "said\n", "{arguments:?}");
        assert_eq!(output.status.code(), Some(42), "{arguments:?}");
    }

    // One that writes before it reads fills every buffer on its way to us while ours fill those on
    // the way to it: whoever sends and receives by turns waits here for ever.
    let both = ["run", "--app", "site", "sh", "-c", "head -c 40000000 /dev/zero; wc -c"];
    let said = piped(&mut berth(&platform, &both), vec![b'x'; 40_000_000]);
    assert_eq!((said.status.code(), said.stdout.len()), (Some(0), 40_000_009));
    assert!(said.stdout.ends_with(b"\x0040000000\n"));

    // One that reads nothing ends all the same.
    let deaf = piped(&mut berth(&platform, &["run", "--app", "site", "true"]), noise);
    assert_eq!(deaf.status.code(), Some(0));
    wait_for_no_run(&platform);
}

#[test]
fn a_closed_input_is_an_empty_one_and_a_closed_output_ends_the_command() {
    let platform = site();
    let program = programs().join("berth").display().to_string();
    let shell = |script: &str| {
        let mut command = berth(&platform, &[]);
        let mut shell = Command::new("bash");
        shell.args(["-c", script, "bash", &program]);
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command = shell;
        piped(&mut command, Vec::new())
    };
    for input in ["<&-", "</dev/null"] {
        let counted = shell(&format!("\"$1\" run --app site wc -c {input}"));
        let said = String::from_utf8_lossy(&counted.stdout).into_owned();
        assert_eq!((said.trim(), counted.status.code()), ("0", Some(0)), "{input}: {counted:?}");
    }
    let cut = shell("\"$1\" run --app site yes | head -n 2; echo ${PIPESTATUS[0]}");
    assert_eq!(String::from_utf8_lossy(&cut.stdout), "y\ny\n141\n", "{cut:?}");
    assert!(cut.stderr.is_empty(), "{cut:?}");
    wait_for_no_run(&platform);
}

#[test]
fn ctrl_c_ends_a_command_here_and_there() {
    let platform = site();
    for arguments in [
        &["run", "--app", "site", "sh", "-c", "echo begun; sleep 1000"][..],
        &["exec", "--app", "site", "web.1", "sh", "-c", "echo begun; exec sleep 1001"],
    ] {
        let mut child = berth(&platform, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut begun = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
        assert_eq!(&begun, b"begun\n");
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        assert_eq!(wait_for_end(&mut child).signal(), Some(2), "as any program that Ctrl-C ends");
    }
    wait_for_no_run(&platform);
    wait_for("the end of the command in the instance", 30, || {
        let all = Command::new("ps").args(["-e", "-o", "args="]).output().unwrap();
        (!String::from_utf8_lossy(&all.stdout).contains("sleep 1001")).then_some(())
    });
}

/// A person at a terminal.
struct Terminal {
    own: OpenptyResult,
    seen: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    fn start(platform: &Platform, rows: u16, columns: u16, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let own = openpty(&size, None).unwrap();
        let end = || Stdio::from(own.slave.try_clone().unwrap());
        // The terminal must be its controlling one, or it hears nothing of a new size.
        let command = berth(platform, &[]);
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(programs().join("berth"))
            .args(arguments)
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let (into, mut master) =
            (Arc::clone(&seen), std::fs::File::from(own.master.try_clone().unwrap()));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { own, seen, child }
    }

    fn type_in(&self, text: &str) {
        let mut master = std::fs::File::from(self.own.master.try_clone().unwrap());
        master.write_all(text.as_bytes()).unwrap();
    }

    fn sees(&self, text: &str) {
        wait_for(&format!("{text:?} on the terminal, which shows {:?}", self.shown()), 20, || {
            self.shown().contains(text).then_some(())
        });
    }

    fn shown(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(self.own.slave.as_fd()).unwrap().local_modes;
        !modes.contains(LocalModes::ICANON)
    }
}

#[test]
fn a_shell_on_a_terminal_knows_its_size_and_gets_ctrl_c_and_gives_the_terminal_back() {
    let platform = site();
    for arguments in
        [&["run", "--app", "site", "bash"][..], &["exec", "--app", "site", "web.1", "bash"]]
    {
        let mut terminal = Terminal::start(&platform, 41, 123, arguments);
        // What is typed is echoed: the answers must differ from it.
        terminal.type_in("echo size=$(stty size)\r");
        terminal.sees("size=41 123");
        assert!(terminal.is_raw());
        let mut size = rustix::termios::tcgetwinsize(&terminal.own.master).unwrap();
        (size.ws_row, size.ws_col) = (30, 99);
        tcsetwinsize(&terminal.own.master, size).unwrap();
        wait_for("the new size", 20, || {
            terminal.type_in("echo size=$(stty size)\r");
            std::thread::sleep(Duration::from_millis(100));
            terminal.shown().contains("size=30 99").then_some(())
        });
        terminal.type_in("echo begun=$((1+1)); sleep 1000\r");
        terminal.sees("begun=2");
        terminal.type_in("\x03");
        terminal.type_in("echo code=$?\r");
        terminal.sees("code=130");
        terminal.type_in("exit 7\r");
        assert_eq!(wait_for_end(&mut terminal.child).code(), Some(7), "{}", terminal.shown());
        assert!(!terminal.is_raw(), "the terminal is as it was");
    }

    // The terminal is given back also when something ends the client from outside.
    let mut terminal = Terminal::start(&platform, 24, 80, &["run", "--app", "site", "bash"]);
    terminal.type_in("echo ready=$((1+1))\r");
    terminal.sees("ready=2");
    let parent = terminal.child.id().to_string();
    let client = Command::new("pgrep").args(["-P", &parent]).output().unwrap();
    let client: i32 = match String::from_utf8_lossy(&client.stdout).trim().parse() {
        Ok(client) => client,
        // setsid did not need to fork.
        Err(_) => parent.parse().unwrap(),
    };
    kill(Pid::from_raw(client), Signal::SIGTERM).unwrap();
    assert_eq!(wait_for_end(&mut terminal.child).code(), Some(143));
    assert!(!terminal.is_raw());
    wait_for_no_run(&platform);
}
