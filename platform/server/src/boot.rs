//! The part of `berthd serve` that runs as root: make the data folder, read the key, start or find
//! the agent, bind, start the workers, and give up root. Nothing here reads from the network.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use berth_container::{
    Agent, AgentError, FailureCode, Ids, Network, NetworkSettings, PROTOCOL, Program, Reply,
    Request,
};

use crate::args;
use crate::data_folder::{DataFolder, write_private};
use crate::key::Key;
use crate::privileges;
use crate::programs::Programs;

/// What is left of root: open sockets and values.
pub struct Booted {
    /// The data folder.
    pub data: DataFolder,
    /// Held for as long as this process serves.
    pub lock: File,
    /// The encryption key.
    pub key: Key,
    /// The platform's programs.
    pub programs: Programs,
    /// The agent.
    pub agent: Agent,
    /// User ids.
    pub ids: Ids,
    /// Addresses of instances.
    pub network: Network,
    /// Listener of the API.
    pub api: TcpListener,
    /// Listener of git over SSH.
    pub ssh: TcpListener,
    /// Where the router really listens.
    pub http: SocketAddr,
    /// At the first start, the link with which the administrator begins.
    pub console_link: Option<String>,
}

/// Does all of it; afterwards this process is nobody.
///
/// # Errors
/// Whatever is missing or refused, with what to do about it.
pub fn boot(options: &args::Serve, settings: NetworkSettings) -> Result<Booted> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "berthd serve must be started as root: it gives containers to apps through its agent. \
             It drops every privilege once it has started"
        );
    }
    for (name, address) in [("--api", options.api), ("--ssh", options.ssh)] {
        if !address.ip().is_loopback() {
            bail!("{name} {address} is not a loopback address, and there is no TLS for it");
        }
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let data = DataFolder::open(&options.data)?;
    let lock = data.lock()?;
    let key = Key::read_or_make(options.key.as_deref(), &data.id)?;
    let programs = Programs::install(&data.root)?;
    let api = bind(options.api, "--api")?;
    let ssh = bind(options.ssh, "--ssh")?;

    // One thread, so that giving up root reaches all there is.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (agent, ids, network, http) = runtime.block_on(async {
        let agent = Agent::at(data.agent_socket());
        let (ids, network) = find_or_start_agent(&agent, &data, &programs, settings).await?;
        check_range(&data, &network, settings)?;
        data.lay_out(&ids)?;
        let http = start_workers(&agent, &data, &ids, options.http).await?;
        anyhow::Ok((agent, ids, network, http))
    })?;
    drop(runtime);
    give_state_to(&data, ids.control)?;
    let mut console_link = None;
    if data.admin_token().exists() {
        forget_console_link(&data)?;
    } else {
        new_admin_token(&data, options.admin_uid, ids.control)?;
        let address = api.local_addr()?;
        console_link = Some(new_console_link(&data, address, options.admin_uid, ids.control)?);
    }
    // What a killed git left belongs to the tool id: it can be removed now, but not later.
    let swept = berth_push::Repositories::open(data.root.join("git")).and_then(|git| git.sweep());
    swept.context("cannot clear up the git repositories")?;
    // Repositories are written by git under the tool id and read by this process.
    privileges::drop_to(ids.control, &[ids.tool]).context("cannot give up root")?;
    Ok(Booted { data, lock, key, programs, agent, ids, network, api, ssh, http, console_link })
}

fn bind(address: SocketAddr, option: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; give another address with {option}")
    })?;
    listener.set_nonblocking(true)?;
    // Connections inherit it: a line of a push or of a log does not wait for the one before to be
    // acknowledged, which clients do after 40 ms.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    Ok(listener)
}

async fn hello(agent: &Agent) -> Result<(String, Ids, Network), AgentError> {
    match agent.call(&Request::Hello { protocol: PROTOCOL }, &[]).await? {
        (Reply::Hello { build, ids, network, .. }, _) => Ok((build, ids, network)),
        (other, _) => Err(AgentError::Protocol(format!("{other:?}"))),
    }
}

/// The agent that serves the data folder, started where there is none.
pub(crate) async fn find_or_start_agent(
    agent: &Agent,
    data: &DataFolder,
    programs: &Programs,
    settings: NetworkSettings,
) -> Result<(Ids, Network)> {
    match hello(agent).await {
        Ok((build, ids, network))
            if build == programs.build_id
                && network.settings.private_ranges == settings.private_ranges =>
        {
            return Ok((ids, network));
        }
        // Refused: an agent of an older protocol.
        Ok(_) | Err(AgentError::Failed { .. }) => {
            // Another build's, or one with another rule for its instances: it leaves, its
            // containers stay and are adopted.
            agent.call(&Request::Retire, &[]).await.context("the old agent does not retire")?;
        }
        Err(AgentError::Unreachable { .. }) => {}
        Err(error) => return Err(error).context("the agent does not answer as it should"),
    }
    start_agent(data, programs, settings)?;
    let (_, ids, network) = hello(agent).await.context("the agent that was just started")?;
    Ok((ids, network))
}

/// What instances run in is not taken away from under them: the agent keeps it.
fn check_range(data: &DataFolder, network: &Network, settings: NetworkSettings) -> Result<()> {
    if network.settings.range == settings.range {
        return Ok(());
    }
    let asked = settings.range.map_or("no range".to_owned(), |range| format!("{range}"));
    bail!(
        "the configuration asks for {asked} in its section `network`, but the network of this \
         platform's instances is {}/16 and stays so while it is there: `berthd down --data {}` \
         and start again, or take the change back",
        network.base,
        data.root.display()
    )
}

fn start_agent(data: &DataFolder, programs: &Programs, settings: NetworkSettings) -> Result<()> {
    let program = programs.folder.join("berth-agent");
    let mut child =
        Command::new(&program)
            .arg("serve")
            .arg("--data")
            .arg(&data.root)
            .args(network_options(settings))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(std::env::vars_os().filter(|(name, _)| {
                name.to_str().is_some_and(|name| name.starts_with("BERTH_AGENT_"))
            }))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
    let stdout = child.stdout.take().context("the agent has no standard output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("cannot hear the agent")?;
    if line.trim() != "ready" {
        let status = child.wait()?;
        bail!(
            "berth-agent could not start ({status}); its messages are above and in {}/agent.log",
            data.root.display()
        );
    }
    Ok(())
}

fn network_options(settings: NetworkSettings) -> Vec<String> {
    let range = settings.range.map(|range| ["--network".to_owned(), range.to_string()]);
    let closed = (!settings.private_ranges).then(|| "--no-private-ranges".to_owned());
    range.into_iter().flatten().chain(closed).collect()
}

async fn start_workers(
    agent: &Agent,
    data: &DataFolder,
    ids: &Ids,
    http: SocketAddr,
) -> Result<SocketAddr> {
    let folder = data.control_folder();
    let route = folder.join("route.sock");
    ensure(agent, Program::Route, || {
        Ok(vec![control_socket(&route, ids.control)?, bind(http, "--http")?.into()])
    })
    .await?;
    ensure(agent, Program::Wasm, || {
        Ok(vec![
            control_socket(&folder.join("wasm.sock"), ids.control)?,
            control_socket(&folder.join("wasm-requests.sock"), ids.route)?,
        ])
    })
    .await?;
    // A router that survived may listen elsewhere than this start says.
    let router = router(&route).await?;
    let listener =
        TcpListener::from(router.listeners().await.context("the router does not answer")?);
    let bound = listener.local_addr()?;
    if http.port() != 0 && bound != http {
        tracing::warn!(%bound, asked = %http, "the router goes on at its old address; `berthd down` first to change it");
    }
    Ok(bound)
}

/// The router that was just started, or found; it opens its socket in its own time.
async fn router(path: &Path) -> Result<berth_route::RouterClient> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match berth_route::RouterClient::connect(path).await {
            Ok(router) => return Ok(router),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(error).context("the router does not come up");
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

/// Finds a worker running, or starts it on new sockets. An agent that knows the worker has its
/// sockets; only where it says that there is none are the paths taken by new ones.
async fn ensure(
    agent: &Agent,
    program: Program,
    sockets: impl FnOnce() -> Result<Vec<OwnedFd>>,
) -> Result<()> {
    let request = Request::Worker { program };
    let call = match agent.call(&request, &[]).await {
        Err(AgentError::Failed { code: FailureCode::NotFound, .. }) => {
            agent.call(&request, &sockets()?).await
        }
        found => found,
    };
    call.map(drop).with_context(|| format!("cannot start the {program:?} worker"))
}

/// Binds a socket that its owner alone may connect to, in the place of a dead one.
fn control_socket(path: &Path, owner: u32) -> Result<OwnedFd> {
    if UnixStream::connect(path).is_ok() {
        bail!("something listens on {} that the agent does not know; end it first", path.display());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    lchown(path, Some(owner), Some(owner))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// Makes a new administrator's token. Its hash comes first, for the control process to take: a
/// token that anybody can read is one that is valid, or will be with the next start.
///
/// # Errors
/// What the file system refuses.
pub fn new_admin_token(data: &DataFolder, owner: u32, control: u32) -> Result<()> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let token = format!("berth_{}", hex::encode(random));
    let hash = berth_store::token_hash(&token);
    write_private(&data.admin_token_hash(), hash.as_bytes(), 0o600, Some(control))?;
    write_private(&data.admin_token(), format!("{token}\n").as_bytes(), 0o600, Some(owner))?;
    Ok(())
}

/// Makes the link with which the administrator signs in to the console for the first time. Its hash
/// comes first, as that of the token.
fn new_console_link(
    data: &DataFolder,
    api: SocketAddr,
    owner: u32,
    control: u32,
) -> Result<String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let secret = hex::encode(random);
    let hash = berth_store::token_hash(&secret);
    let link = format!("http://{api}/sign-in#{secret}");
    write_private(&data.console_link_hash(), hash.as_bytes(), 0o600, Some(control))?;
    write_private(&data.console_link(), format!("{link}\n").as_bytes(), 0o600, Some(owner))?;
    Ok(link)
}

/// A link of an earlier start is good no more.
fn forget_console_link(data: &DataFolder) -> Result<()> {
    match std::fs::remove_file(data.console_link()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("cannot remove the link of an earlier start")
        }
        _ => Ok(()),
    }
}

/// A restore or an older build may have left files that are root's.
fn give_state_to(data: &DataFolder, control: u32) -> Result<()> {
    for entry in std::fs::read_dir(data.root.join("state"))? {
        let path = entry?.path();
        // Never through a link: this folder is the control id's to write to.
        lchown(&path, Some(control), Some(control))
            .with_context(|| format!("cannot give {} to the control id", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_socket_takes_the_place_of_a_dead_one_and_never_of_a_live_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("route.sock");
        let own = rustix::process::geteuid().as_raw();
        let first = control_socket(&path, own).unwrap();
        let refused = control_socket(&path, own).unwrap_err().to_string();
        assert!(refused.contains("route.sock"), "{refused}");
        UnixStream::connect(&path).unwrap();
        drop(first);
        let _second = control_socket(&path, own).unwrap();
        UnixStream::connect(&path).unwrap();
    }
}
