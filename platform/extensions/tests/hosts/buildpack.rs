use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use berth_extensions::buildpack::{
    Buildpack, BuildpackError, BuildpackHost, Buildpacks, Context, Entry, Failure, HostError,
    LogLevel, Require, Step, Target, ToolOutcome, Verdict,
};
use berth_extensions::{EngineKind, Fault, Limits};

use super::support::{code, guest, within};

/// A build room that notes what it is asked.
#[derive(Default)]
struct Room {
    calls: Mutex<Vec<String>>,
    log: Mutex<Vec<String>>,
    tool_time: Duration,
}

impl Room {
    fn note(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }
}

fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: code.to_owned(), retry: false, extra: Vec::new() }
}

#[async_trait]
impl BuildpackHost for Room {
    async fn source_kind(&self, path: &str) -> Result<String, HostError> {
        Ok(if path == "a.txt" { "file" } else { "missing" }.to_owned())
    }

    async fn source_read(&self, path: &str, _: u64) -> Result<Vec<u8>, HostError> {
        match path {
            "a.txt" => Ok(b"text".to_vec()),
            _ => Err(failure("not-found").into()),
        }
    }

    async fn source_glob(&self, patterns: &[String]) -> Result<Vec<String>, HostError> {
        Ok(patterns.iter().map(|pattern| pattern.replace('*', "a")).collect())
    }

    async fn source_digest(&self, patterns: &[String]) -> Result<String, HostError> {
        match patterns[0].as_str() {
            "blocks" => std::future::pending().await,
            "broken" => Err(HostError::Broken("the disk is gone".into())),
            _ => Ok("d1e2".to_owned()),
        }
    }

    fn log_header(&self, text: &str) {
        self.log.lock().unwrap().push(format!("header {text}"));
    }

    fn log_line(&self, level: LogLevel, text: &str) {
        self.log.lock().unwrap().push(format!("{level:?} {text}"));
    }

    async fn inventory_entries(&self, role: &str, package: &str) -> Result<Vec<Entry>, HostError> {
        Ok(vec![Entry {
            role: role.to_owned(),
            package: package.to_owned(),
            version: "20.1.0".to_owned(),
            integrity: String::new(),
            extra: Vec::new(),
        }])
    }

    async fn workspace_write(&self, path: &str, data: Vec<u8>, _: bool) -> Result<(), HostError> {
        self.note(format!("workspace.write {path} {}", data.len()));
        Ok(())
    }

    async fn workspace_symlink(&self, path: &str, target: &str) -> Result<(), HostError> {
        self.note(format!("workspace.symlink {path} {target}"));
        Ok(())
    }

    async fn workspace_remove(&self, patterns: &[String]) -> Result<u32, HostError> {
        self.note(format!("workspace.remove {patterns:?}"));
        Ok(3)
    }

    async fn layer_open(&self, name: &str, kinds: &[String]) -> Result<(), HostError> {
        self.note(format!("open {name} {kinds:?}"));
        Ok(())
    }

    async fn layer_path(&self, layer: &str) -> Result<String, HostError> {
        Ok(format!("/layers/guest/{layer}"))
    }

    async fn layer_restored(&self, layer: &str) -> Result<Option<String>, HostError> {
        self.note(format!("restored {layer}"));
        Ok(Some("{\"lock\":0}".to_owned()))
    }

    async fn layer_clear(&self, layer: &str) -> Result<(), HostError> {
        self.note(format!("clear {layer}"));
        Ok(())
    }

    async fn layer_update(&self, layer: &str) -> Result<(), HostError> {
        self.note(format!("update {layer}"));
        Ok(())
    }

    async fn layer_set_metadata(&self, layer: &str, metadata: &str) -> Result<(), HostError> {
        self.note(format!("metadata {layer} {metadata}"));
        Ok(())
    }

    async fn layer_write(
        &self,
        layer: &str,
        path: &str,
        data: Vec<u8>,
        executable: bool,
    ) -> Result<(), HostError> {
        self.note(format!("write {layer} {path} {} {executable}", data.len()));
        Ok(())
    }

    async fn layer_symlink(&self, layer: &str, path: &str, target: &str) -> Result<(), HostError> {
        self.note(format!("symlink {layer} {path} {target}"));
        Ok(())
    }

    async fn layer_env(
        &self,
        layer: &str,
        phase: &str,
        operation: &str,
        name: &str,
        value: &str,
    ) -> Result<(), HostError> {
        self.note(format!("env {layer} {phase} {operation} {name}={value}"));
        Ok(())
    }

    async fn tool_run(&self, step: Step) -> Result<ToolOutcome, HostError> {
        self.note(format!("run {:?} {:?}", step.argv, step.network));
        tokio::time::sleep(self.tool_time).await;
        let stdout = b"said".to_vec();
        Ok(ToolOutcome { exit_code: 0, oom_killed: false, timed_out: false, stdout })
    }

    async fn tool_fetch(
        &self,
        role: &str,
        package: &str,
        version: &str,
        integrity: &str,
    ) -> Result<String, HostError> {
        self.note(format!("fetch {role} {package} {version} {integrity}"));
        Ok("/caches/node/node.tgz".to_owned())
    }
}

async fn buildpack() -> Buildpack {
    static ENGINE: OnceLock<Buildpacks> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Buildpacks::new().unwrap());
    engine.load(&code(EngineKind::Extensions, guest("guest_buildpack")).await).unwrap()
}

fn context(what: &str) -> Context {
    Context {
        buildpack_id: "guest".to_owned(),
        exec_env: "production".to_owned(),
        target: Target {
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            distro: "debian".to_owned(),
            distro_version: "12".to_owned(),
        },
        config_names: Vec::new(),
        extra: vec![("do".to_owned(), what.to_owned())],
    }
}

async fn detect(what: &str) -> Result<Verdict, BuildpackError> {
    detect_in(Arc::new(Room::default()), what, Limits::BUILDPACK_DETECT).await
}

async fn detect_in(room: Arc<Room>, what: &str, limits: Limits) -> Result<Verdict, BuildpackError> {
    within(what, buildpack().await.detect(&context(what), room, limits)).await
}

async fn reason(what: &str) -> String {
    match detect(what).await.unwrap() {
        Verdict::Fail(reason) => reason,
        Verdict::Pass(plans) => panic!("{plans:?}"),
    }
}

/// How a guest ends under limits.
async fn fault(what: &str, limits: Limits) -> Fault {
    match detect_in(Arc::new(Room::default()), what, limits).await.unwrap_err() {
        BuildpackError::Guest(error) => error.fault,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_verdict_comes_with_its_plan_or_its_reason() {
    let Verdict::Pass(plans) = detect("pass").await.unwrap() else { panic!("it must pass") };
    assert_eq!(plans[0].provides, ["node"]);
    assert_eq!(plans[0].requires[0].metadata, "{}");
    assert_eq!(reason("fail").await, "there is no package.json");
}

#[tokio::test]
async fn a_detector_sees_the_source_and_the_inventory() {
    assert_eq!(reason("source").await, "file text not-found [\"a.txt\"] d1e2");
    assert_eq!(reason("inventory").await, "20.1.0");
}

#[tokio::test]
async fn layers_tools_and_the_workspace_are_refused_while_it_detects() {
    for what in ["layers", "tools", "fetch", "workspace"] {
        let room = Arc::new(Room::default());
        let refused = detect_in(Arc::clone(&room), what, Limits::BUILDPACK_DETECT).await;
        match refused.unwrap_err() {
            BuildpackError::Failure(failure) => assert_eq!(failure.code, "not-while-detecting"),
            other => panic!("{what}: {other}"),
        }
        assert!(room.calls.lock().unwrap().is_empty(), "{what} reached the build room");
    }
}

#[tokio::test]
async fn a_build_reaches_every_function_of_the_host() {
    let room = Arc::new(Room::default());
    let requires = [Require { name: "node".to_owned(), metadata: "{}".to_owned() }];
    let output = buildpack()
        .await
        .build(&context("full"), &requires, Arc::clone(&room) as _, Limits::BUILDPACK_BUILD)
        .await
        .unwrap();
    assert_eq!(output.processes[0].command, ["1 {\"lock\":0} 3 said /caches/node/node.tgz"]);
    assert_eq!(
        *room.calls.lock().unwrap(),
        [
            "open deps [\"launch\", \"cache\"]",
            "restored deps",
            "clear deps",
            "update deps",
            "metadata deps {\"lock\":1}",
            "write deps bin/x 10 true",
            "symlink deps bin/y x",
            "env deps launch prepend PATH=/layers/guest/deps",
            "workspace.write made 4",
            "workspace.symlink link made",
            "workspace.remove [\"*.pyc\"]",
            "run [\"true\"] [\"none\"]",
            "fetch node node 20.1.0 sha512-x",
        ]
    );
}

#[tokio::test]
async fn calls_can_run_on_any_thread() {
    let buildpack = buildpack().await;
    let detected = tokio::spawn(async move {
        let room = Arc::new(Room::default());
        buildpack.detect(&context("fail"), room, Limits::BUILDPACK_DETECT).await.is_ok()
    });
    assert!(detected.await.unwrap());
}

#[tokio::test]
async fn the_world_of_a_guest_is_empty_and_the_same_each_time() {
    let first = reason("world").await;
    assert!(first.starts_with("time 315532801 passed 0 env 0 args 0 files false"), "{first}");
    assert_eq!(reason("world").await, first);
}

#[tokio::test]
async fn output_becomes_log_lines_without_control_characters() {
    let room = Arc::new(Room::default());
    detect_in(Arc::clone(&room), "write", Limits::BUILDPACK_DETECT).await.unwrap();
    assert_eq!(
        *room.log.lock().unwrap(),
        ["Debug to stdout", "Debug to stderr\\u{1b}[2J", "header heading", "Warning a line"]
    );
}

#[tokio::test]
async fn a_failure_of_the_buildpack_is_given_as_it_is() {
    match detect("failure").await.unwrap_err() {
        BuildpackError::Failure(failure) => {
            assert_eq!(failure.code, "no-version");
            assert_eq!(failure.message, "python 2.4 is not in the inventory");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_panic_is_a_trap_with_a_backtrace_and_the_host_goes_on() {
    match detect("panic").await.unwrap_err() {
        BuildpackError::Guest(error) => {
            assert_eq!(error.fault, Fault::Trap);
            assert!(error.message.contains("detect"), "{}", error.message);
        }
        other => panic!("{other}"),
    }
    assert_eq!(reason("fail").await, "there is no package.json");
}

#[tokio::test]
async fn fuel_ends_a_loop_before_its_time_is_over() {
    let limits = Limits { fuel_max: 50_000_000, ..Limits::BUILDPACK_DETECT };
    assert_eq!(fault("loop", limits).await, Fault::Cpu);
}

#[tokio::test]
async fn processor_time_ends_a_loop_that_has_fuel() {
    let limits = Limits { cpu_ms_max: 60, fuel_max: u64::MAX, ..Limits::BUILDPACK_DETECT };
    let started = Instant::now();
    assert_eq!(fault("loop", limits).await, Fault::Cpu);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn memory_ends_at_its_limit() {
    let limits = Limits { memory_bytes_max: 16 << 20, ..Limits::BUILDPACK_DETECT };
    assert_eq!(fault("memory", limits).await, Fault::Memory);
}

#[tokio::test]
async fn a_flood_of_host_calls_ends_at_its_limit() {
    let limits = Limits { host_calls_max: 2_000, ..Limits::BUILDPACK_DETECT };
    assert_eq!(fault("calls", limits).await, Fault::HostCalls);
}

#[tokio::test]
async fn a_flood_of_wasi_calls_ends_at_its_limit() {
    let limits = Limits { host_calls_max: 2_000, ..Limits::BUILDPACK_DETECT };
    assert_eq!(fault("wasi-calls", limits).await, Fault::HostCalls);
}

#[tokio::test]
async fn a_flood_of_log_lines_ends_at_its_limit() {
    let limits = Limits { output_bytes_max: 100_000, ..Limits::BUILDPACK_DETECT };
    let room = Arc::new(Room::default());
    let ended = detect_in(Arc::clone(&room), "log", limits).await.unwrap_err();
    assert!(matches!(ended, BuildpackError::Guest(error) if error.fault == Fault::Output));
    assert!(room.log.lock().unwrap().iter().map(String::len).sum::<usize>() < 110_000);
}

#[tokio::test]
async fn a_flood_on_standard_output_ends_at_its_limit() {
    let limits = Limits { output_bytes_max: 100_000, ..Limits::BUILDPACK_DETECT };
    assert_eq!(fault("stdout", limits).await, Fault::Output);
}

#[tokio::test]
async fn one_call_cannot_carry_more_than_its_limit() {
    let limits = Limits { call_bytes_max: 1 << 20, ..Limits::BUILDPACK_DETECT };
    assert_eq!(fault("huge-argument", limits).await, Fault::Trap);
}

#[tokio::test]
async fn a_guest_that_waits_in_a_host_call_ends_with_its_wall_time() {
    let limits = Limits { wall_ms_max: 80, ..Limits::BUILDPACK_DETECT };
    assert_eq!(fault("blocked", limits).await, Fault::Timeout);
}

#[tokio::test]
async fn the_time_of_tools_is_not_the_buildpacks() {
    let room = Arc::new(Room { tool_time: Duration::from_millis(400), ..Room::default() });
    let limits = Limits { wall_ms_max: 200, ..Limits::BUILDPACK_BUILD };
    let output = buildpack().await.build(&context("tool"), &[], room, limits).await.unwrap();
    assert_eq!(output.processes[0].command, ["0"]);
}

#[tokio::test]
async fn a_failure_of_the_platform_is_not_the_guests_fault() {
    match detect("host-fails").await.unwrap_err() {
        BuildpackError::Host(text) => assert_eq!(text, "the disk is gone"),
        other => panic!("{other}"),
    }
}
