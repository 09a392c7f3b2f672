//! One platform under test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A running platform with a data folder, ports and an administrator of its own.
pub struct Platform {
    /// Its data folder.
    pub data: PathBuf,
    /// Address of the API.
    pub api: SocketAddr,
    /// Address of git over SSH.
    pub ssh: SocketAddr,
    /// Address of the router.
    pub http: SocketAddr,
    /// The administrator's token.
    pub token: String,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

/// The folder of the programs under test.
pub fn programs() -> PathBuf {
    match std::env::var_os("BERTH_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        // The test binary lies in TARGET/debug/deps, the programs in TARGET/berth.
        None => std::env::current_exe()
            .ok()
            .and_then(|own| Some(own.parent()?.parent()?.parent()?.join("berth")))
            .unwrap_or_default(),
    }
}

/// What tests set small: nothing here changes what the platform does, only how long it waits.
const CONFIG: &str = "\
[deploy]
monitor_ms = 1000
drain_ms_max = 3000
check_ms_max = 15000
stop_ms_max = 3000
";

/// A new data folder.
fn folder() -> PathBuf {
    let parent = Path::new("/var/lib/berth-test");
    std::fs::create_dir_all(parent).expect("tests that make containers need root");
    tempfile::Builder::new().prefix("t").tempdir_in(parent).expect("a data folder").keep()
}

impl Platform {
    /// Starts one with deadlines that suit tests.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Self {
        Self::start_with(CONFIG)
    }

    /// Starts one with a configuration file of this text.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with(config: &str) -> Self {
        Self::start_where(folder(), config, &[], &[])
    }

    /// Starts one with deadlines that suit tests, with further options of `berthd serve` and in an
    /// environment that differs from ours in these variables.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_elsewhere(options: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_where(folder(), CONFIG, options, environment)
    }

    /// Starts one in a folder that is there, which becomes the platform's own.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_in(data: PathBuf, config: &str) -> Self {
        Self::start_where(data, config, &[], &[])
    }

    fn start_where(
        data: PathBuf,
        config: &str,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let file = data.join("config.toml");
        std::fs::write(&file, config).expect("a configuration file");
        let mut all = vec!["--config".to_owned(), file.display().to_string()];
        all.extend(options.iter().map(|option| (*option).to_owned()));
        let environment =
            environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let none = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut platform = Self {
            data,
            api: none,
            ssh: none,
            http: none,
            token: String::new(),
            options: all,
            environment,
            child: None,
        };
        platform.serve().expect("the platform starts");
        platform
    }

    /// Starts `berthd serve` again, as its supervisor would: on the same ports.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn serve(&mut self) -> Result<()> {
        let mut command = Command::new(programs().join("berthd"));
        command
            .arg("serve")
            .args(["--http", &self.http.to_string()])
            .args(["--api", &self.api.to_string()])
            .args(["--ssh", &self.ssh.to_string()])
            .arg("--data")
            .arg(&self.data)
            .args(&self.options)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(self.data.join("berthd.log"))?,
            );
        let mut child = command.spawn().context("cannot start berthd")?;
        let stdout = child.stdout.take().context("no standard output")?;
        self.child = Some(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let said: serde_json::Value = serde_json::from_str(&line).with_context(|| {
            let log = std::fs::read_to_string(self.data.join("berthd.log")).unwrap_or_default();
            format!("berthd did not say where it listens, but {line:?}\n{log}")
        })?;
        let address = |name: &str| -> Result<SocketAddr> {
            Ok(said[name].as_str().context("no address")?.parse()?)
        };
        (self.api, self.ssh, self.http) = (address("api")?, address("ssh")?, address("http")?);
        self.token = std::fs::read_to_string(self.data.join("admin-token"))?.trim().to_owned();
        Ok(())
    }

    /// The process id of `berthd serve`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("berthd runs").id()
    }

    /// Ends `berthd serve` with SIGKILL and waits for its end.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("berthd runs");
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
    }

    /// Kills its agent, as `kill -9` does.
    ///
    /// # Panics
    /// When there is not just one.
    pub fn kill_agent(&self) {
        let data = format!("--data {} ", self.data.display());
        let agents = crate::traces::processes(&["berth-agent serve ", &data]);
        let [agent] = agents[..] else { panic!("not one agent: {agents:?}") };
        let agent = nix::unistd::Pid::from_raw(agent);
        nix::sys::signal::kill(agent, nix::sys::signal::Signal::SIGKILL).expect("it can be killed");
    }

    /// Waits until `berthd serve` has ended by itself and gives its exit code.
    ///
    /// # Panics
    /// When it does not run, or a signal ended it.
    pub fn wait_end(&mut self) -> i32 {
        let mut child = self.child.take().expect("berthd runs");
        child.wait().expect("its end").code().expect("an exit code")
    }

    /// The CLI with a token, ready to be started.
    pub fn command(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs().join("berth"));
        command
            .env("BERTH_SERVER", format!("http://{}", self.api))
            .env("BERTH_TOKEN", token)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs the CLI as the administrator.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn berth(&self, arguments: &[&str]) -> Output {
        self.berth_as(&self.token, arguments)
    }

    /// Runs the CLI with another token.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn berth_as(&self, token: &str, arguments: &[&str]) -> Output {
        self.command(token, arguments).output().expect("the CLI starts")
    }

    /// Runs the CLI, which must succeed, and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.berth(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "berth {arguments:?}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// A browser's view of the router: requests to `host`, whatever the resolver thinks of it.
    ///
    /// # Panics
    /// When no client can be made.
    pub fn client(&self, host: &str) -> reqwest::blocking::Client {
        reqwest::blocking::Client::builder()
            .resolve(host, self.http)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client")
    }

    /// The URL of a path of an app.
    pub fn url(&self, app: &str, path: &str) -> String {
        format!("http://{app}.localhost:{}{path}", self.http.port())
    }

    /// Status and body of a GET to an app.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, app: &str, path: &str) -> Result<(u16, String)> {
        let answer = self.client(&format!("{app}.localhost")).get(self.url(app, path)).send()?;
        Ok((answer.status().as_u16(), answer.text()?))
    }

    /// Everything `berthd` wrote to its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("berthd.log")).unwrap_or_default()
    }

    /// Stops everything of the platform; data stays.
    ///
    /// # Errors
    /// When `berthd down` fails.
    pub fn down(&mut self) -> Result<()> {
        let output = Command::new(programs().join("berthd"))
            .args(["down", "--grace-ms", "500", "--data"])
            .arg(&self.data)
            .output()?;
        if let Some(mut child) = self.child.take() {
            // The agent's end ends it; whatever hangs is not waited for.
            let _ = child.kill();
            child.wait()?;
        }
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let stopped = self.down();
        if std::thread::panicking() {
            // Printed only where a test failed: what the platform thought of it.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("--- {}/berthd.log\n{}\n", self.data.display(), self.log()).as_bytes(),
            );
        } else {
            assert!(stopped.is_ok(), "{stopped:?}");
        }
        let id = std::fs::read_to_string(self.data.join("id")).unwrap_or_default();
        let _ = std::fs::remove_file(Path::new("/etc/berth/keys").join(id.trim()));
        let _ = std::fs::remove_dir_all(&self.data);
    }
}
