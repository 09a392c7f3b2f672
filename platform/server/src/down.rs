//! Commands of the machine's administrator, which work without a running `berthd`.

use anyhow::{Context, Result, bail};
use berth_container::{Agent, AgentError, Request};

use crate::args;
use crate::data_folder::DataFolder;

fn as_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("this command must be run as root");
    }
    Ok(())
}

/// Stops everything of a data folder. Nothing to stop is fine.
///
/// # Errors
/// A folder that was never served, or an agent that does not do it.
pub fn run(options: &args::Down) -> Result<()> {
    as_root()?;
    let data = DataFolder::existing(&options.data)?;
    let agent = Agent::at(data.agent_socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = Request::Down { grace_ms: options.grace_ms };
    match runtime.block_on(agent.call(&request, &[])) {
        Ok(_) | Err(AgentError::Unreachable { .. }) => Ok(()),
        Err(error) => Err(error).context("the agent did not stop everything"),
    }
}

/// Makes a new administrator's token. The platform takes it at its
/// next start; until then the old one goes on.
///
/// # Errors
/// A folder that was never served, and what the file system refuses.
pub fn reset_admin_token(options: &args::DataFolder) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    as_root()?;
    let data = DataFolder::existing(&options.data)?;
    let path = data.admin_token();
    let owner = std::fs::metadata(&path).map_or(0, |found| found.uid());
    let token = crate::boot::reset_admin_token(&path, owner)?;
    // Stored as a hash only; the store is the control id's, so it takes the hash from this file.
    let state = data.root.join("state");
    let owner = std::fs::metadata(&state)?.uid();
    let hash = state.join("admin-token.sha256");
    crate::data_folder::write_private(&hash, berth_store::token_hash(&token).as_bytes(), 0o600)?;
    std::os::unix::fs::lchown(&hash, Some(owner), Some(owner))?;
    writeln!(std::io::stdout(), "{}", path.display()).context("cannot write")
}
