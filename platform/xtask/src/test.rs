//! Runs every suite and prints the minutes of each.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{build, check, setup, shell, vm};

/// Installs what the tests need, builds, and runs all suites, or the tests whose names match.
pub(crate) fn run(filter: &[&str]) -> Result<()> {
    let mut times = Vec::new();
    let mut failed = Vec::new();
    let mut suite = |name: &'static str, work: &mut dyn FnMut() -> Result<()>| {
        shell::say(&format!("=====> {name}"));
        let begun = Instant::now();
        let result = work();
        times.push((name, begun.elapsed().as_secs_f32() / 60.0));
        if let Err(error) = result {
            shell::say(&format!(" !     {name}: {error:#}"));
            failed.push(name);
        }
    };
    setup::for_test()?;
    if filter.is_empty() {
        suite("checks", &mut check::run);
    }
    suite("build", &mut || build::all(build::Profile::Dev).map(drop));
    suite("unit and room tests", &mut || {
        cargo_test(&["--workspace", "--exclude", "acceptance"], Who::Caller, filter)
    });
    // Guests have workspaces of their own; what is tested of them runs on the host.
    for (name, workspace) in [("buildpack tests", "buildpacks"), ("plugin tests", "plugins")] {
        suite(name, &mut || {
            shell::run(
                shell::command("cargo")
                    .current_dir(shell::root().join(workspace))
                    .args(["test", "--quiet", "--locked", "--workspace"])
                    .args(filter),
            )
        });
    }
    suite("container tests", &mut || {
        cargo_test(&["--workspace", "--exclude", "acceptance"], Who::Root, filter)
    });
    suite("container tests on cgroup v2", &mut || vm::container_tests(filter));
    suite("acceptance tests", &mut || cargo_test(&["-p", "acceptance"], Who::All, filter));

    shell::say("=====> Minutes per suite");
    for (name, minutes) in &times {
        shell::say(&format!("       {name:<28} {minutes:>6.1}"));
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

/// Whose rights a suite has.
enum Who {
    /// Whoever called us; test files named `root_*` are left out.
    Caller,
    /// Root, and nothing but `root_*` files; what only cgroup v2 has is for `vm`.
    Root,
    /// Root, all files.
    All,
}

fn cargo_test(packages: &[&str], who: Who, filter: &[&str]) -> Result<()> {
    let mut cargo = shell::command("cargo");
    cargo.env("BERTH_PROGRAMS", shell::target().join("berth"));
    if !matches!(who, Who::Caller) {
        shell::as_root_runner(&mut cargo);
    }
    if shell::has("cargo-nextest") {
        cargo.args(["nextest", "run", "--locked"]).args(packages);
        match who {
            Who::Caller => cargo.args(["-E", "not binary(/^root_/)"]),
            Who::Root => cargo.args(["-E", "binary(/^root_/) and not test(/^cgroup2::/)"]),
            Who::All => &mut cargo,
        };
        cargo.args(filter).arg("--no-tests=pass");
    } else {
        cargo.args(["test", "--locked"]).args(packages);
        match who {
            // Without nextest files cannot be chosen by what they are not named.
            Who::Caller => cargo.args(["--lib", "--bins"]),
            Who::Root => cargo.args(["--test", "*"]),
            Who::All => &mut cargo,
        };
        cargo.args(filter).args(["--", "--test-threads=2", "--skip", "cgroup2::"]);
    }
    shell::run(&mut cargo)
}
