//! Commands of the machine's administrator, which work without a running `berthd`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use berth_container::{Agent, AgentError, NetworkSettings, Request};

use crate::args;
use crate::boot;
use crate::data_folder::DataFolder;
use crate::programs::Programs;

/// How long a platform that runs may take to take a new token.
const TAKEN_MAX: Duration = Duration::from_secs(10);

fn as_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("this command must be run as root");
    }
    Ok(())
}

/// Stops everything of a data folder, also what an agent that ended has left. Nothing to stop is
/// fine.
///
/// # Errors
/// A folder that was never served, or an agent that does not do it.
pub fn run(options: &args::Down) -> Result<()> {
    as_root()?;
    let data = DataFolder::existing(&options.data)?;
    let agent = Agent::at(data.agent_socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = Request::Down { grace_ms: options.grace_ms };
    runtime.block_on(async {
        let mut stopped = agent.call(&request, &[]).await;
        if matches!(stopped, Err(AgentError::Unreachable { .. })) {
            // Its folder goes when it has stopped everything.
            if !data.run_folder().exists() {
                return Ok(());
            }
            let programs = Programs::install(&data.root)?;
            // The range that is there stays until it is removed; what the operator forbade is not
            // known here, so nothing is allowed.
            let settings = NetworkSettings { range: None, private_ranges: false };
            boot::find_or_start_agent(&agent, &data, &programs, settings).await?;
            stopped = agent.call(&request, &[]).await;
        }
        stopped.map(drop).context("the agent did not stop everything")
    })
}

/// Makes a new administrator's token. A platform that runs takes it at once, and the old one is
/// worth nothing when this returns; one that does not run takes it at its next start.
///
/// # Errors
/// A folder that was never served, what the file system refuses, and a platform that runs and does
/// not take it in time.
pub fn reset_admin_token(options: &args::DataFolder) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    as_root()?;
    let data = DataFolder::existing(&options.data)?;
    let path = data.admin_token();
    let owner = std::fs::metadata(&path).map_or(0, |found| found.uid());
    let control = std::fs::metadata(data.root.join("state"))?.uid();
    crate::boot::new_admin_token(&data, owner, control)?;
    let begun = Instant::now();
    // Nobody serves where the lock can be had. It is tried once: a platform that starts now must
    // find it free. What serves removes the hash when it has taken it.
    let serves = data.lock().is_err();
    while serves && data.admin_token_hash().exists() {
        if begun.elapsed() > TAKEN_MAX {
            bail!(
                "the platform runs and did not take the new token within {} s; its log says why",
                TAKEN_MAX.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    writeln!(std::io::stdout(), "{}", path.display()).context("cannot write")
}
