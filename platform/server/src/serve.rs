//! The control process after it gave up root: opens what it keeps, wires the rooms, and serves
//! until it is told to end.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use berth_blobs::BlobStore;
use berth_build::proxy::{Policy, Upstream};
use berth_build::{Builder, Inventory, Loaded};
use berth_container::{Reply, Request};
use berth_deploy::{Embedded, Reconciler, Settings};
use berth_extensions::buildpack::Buildpacks as Engine;
use berth_extensions::outbound::Outbound;
use berth_extensions::{AotCache, MacKey, WorkerClient};
use berth_push::{Push, Repositories};
use berth_store::Store;
use tokio_util::sync::CancellationToken;

use crate::actions::RoomActions;
use crate::addons::Addons;
use crate::args;
use crate::attempts::Attempts;
use crate::boot::{Booted, boot};
use crate::buildpacks::{self, Buildpacks};
use crate::clock::now_ms;
use crate::collect::Collector;
use crate::compiler::Compiler;
use crate::config::Config;
use crate::disk::Disk;
use crate::drains::Drains;
use crate::extensions::Registry;
use crate::git::{GitHost, Locks};
use crate::listener::Limits;
use crate::logs::Logs;
use crate::measures::{Measures, Sources};
use crate::middleware::Chains;
use crate::passwords::SignIn;
use crate::pipeline::{Pipeline, Running, resume};
use crate::records::StoreRecords;
use crate::router::Router;
use crate::stacks::Stacks;
use crate::wasm_host::WasmApps;
use crate::{admin_token, http, listener, log};

/// The agent ended: the starter must start both again, as root.
const AGENT_LOST: u8 = 70;

/// Serves. Gives the exit code.
///
/// # Errors
/// Configuration and machine, before anything is served.
pub fn run(options: &args::Serve) -> Result<u8> {
    log::start();
    let config = Config::read(options.config.as_deref())?;
    let booted = boot(options, config.network)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(serve(options, config, booted))?;
    // Blocking reads of tools that hang must not hold the end up.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(code)
}

async fn serve(options: &args::Serve, config: Config, booted: Booted) -> Result<u8> {
    let Booted {
        data,
        lock: _lock,
        key,
        programs,
        agent,
        ids: _,
        network,
        api,
        ssh,
        http,
        console_link,
    } = booted;
    let state = data.root.join("state");
    let store =
        Store::open(&state.join("berth.sqlite"), &key.derive("store"), &options.domain).await?;
    admin_token::take(&store, &data.admin_token_hash()).await?;
    let link_ms = SignIn::new(config.console).link_ms;
    admin_token::take_link(&store, &data.console_link_hash(), link_ms).await?;
    let abandoned = resume::abandon(&store).await?;
    if abandoned > 0 {
        tracing::warn!("{abandoned} builds were abandoned when the platform stopped");
    }
    let blobs = BlobStore::open(data.root.join("blobs"))?;
    // The lock on the data folder is held: what is half-written is a killed process's.
    blobs.clear_unfinished()?;
    let cache =
        AotCache::open(data.root.join("aot"), MacKey::new(key.derive("aot")), &programs.build_id)?;
    let compiler = Compiler::new(agent.clone(), Arc::new(cache), Arc::new(blobs.clone()));
    let policy = Arc::new(Policy {
        roles_only: config.build.roles_only,
        roles: config.build.roles.clone(),
        private_hosts: config.build.private_hosts.clone(),
        mirrors: config.build.mirrors.clone(),
        instances: Some(network.base),
        upstream: upstream()?,
    });
    let engine = Engine::new()?;
    let shipped = buildpacks::shipped(&engine, &programs, &compiler).await?;
    let builder = builder(shipped.clone(), &compiler, &policy, &data)?;
    let buildpacks =
        Buildpacks::new(store.clone(), compiler.clone(), engine, shipped, builder.clone());
    buildpacks.load().await?;
    let ended = builder.end_abandoned().await.context("cannot end what old builds left")?;
    if ended > 0 {
        tracing::warn!("{ended} build containers of a platform that was killed were ended");
    }

    let (router, mut drained) =
        Router::new(data.control_folder().join("route.sock"), store.clone());
    let wasm = WasmApps {
        worker: WorkerClient::at(data.control_folder().join("wasm.sock")),
        compiler: compiler.clone(),
        config: config.wasm.clone(),
        instances: network.base,
    };
    let extensions = Registry::new(
        store.clone(),
        compiler.clone(),
        Arc::new(Outbound::new(Some(network.base))),
        config.extensions.clone(),
    )?;
    extensions.load().await?;
    let chains = Chains::new(extensions.clone(), store.clone(), key.derive("middleware"));
    router.protect(Arc::new(chains));
    let records = StoreRecords { store: store.clone(), router: router.clone() };
    let embedded = Embedded::new(agent.clone(), Arc::new(blobs.clone()));
    let settings = Settings { timeouts: config.deploy, ..Settings::default() };
    let deploys = Reconciler::new(records, embedded, wasm, settings);
    let repositories = Repositories::open(data.root.join("git"))?;
    let pipeline = Pipeline {
        store: store.clone(),
        blobs: Arc::new(blobs.clone()),
        builder,
        stacks: Stacks {
            agent: agent.clone(),
            blobs: Arc::new(blobs.clone()),
            policy,
            making: Arc::default(),
        },
        deploys: deploys.clone(),
        router: router.clone(),
        repositories: repositories.clone(),
        running: Running::default(),
        disk: Disk::of(&data.root, config.disk),
        extensions: extensions.clone(),
        http_port: http.port(),
    };
    let locks = Locks::default();
    let attempts = Attempts::start(store.clone(), now_ms);
    let git = GitHost {
        pipeline: pipeline.clone(),
        attempts: attempts.clone(),
        locks: locks.clone(),
        create_apps: config.push.create_apps,
    };
    let collector = Arc::new(Collector {
        store: store.clone(),
        blobs: Arc::new(blobs.clone()),
        agent: agent.clone(),
        repositories: repositories.clone(),
        running: pipeline.running.clone(),
        locks: locks.clone(),
    });
    let push = Push::new(git, agent.clone(), repositories, blobs, config.push.limits());
    let (down, asked_down) = tokio::sync::watch::channel(None);
    let logs = Logs::new(store.clone(), agent.clone(), data.root.join("logs-wasm"));
    let drains =
        Drains::new(store.clone(), logs.clone(), Arc::new(extensions.clone()), Some(network.base));
    let actions = RoomActions {
        pipeline: pipeline.clone(),
        push: push.clone(),
        locks: locks.clone(),
        agent: agent.clone(),
        logs,
        drains: drains.clone(),
        addons: Addons { pipeline: pipeline.clone(), locks: locks.clone() },
        buildpacks,
        collector: Arc::clone(&collector),
        waiting: Default::default(),
        down,
    };

    pipeline.resume(&locks).await?;
    tokio::spawn(admin_token::keep_taking(store.clone(), data.admin_token_hash()));
    tokio::spawn(router.clone().keep_connected());
    tokio::spawn(router.clone().follow_extensions());
    let (waking, rows) = (deploys.clone(), store.clone());
    tokio::spawn(async move {
        while let Some(instance) = drained.recv().await {
            if let Ok(Some(record)) = rows.instance(instance).await {
                waking.wake(record.app);
            }
        }
    });
    deploys.start();
    tokio::spawn(crate::wasm_host::keep_answering(
        WorkerClient::at(data.control_folder().join("wasm.sock")),
        store.clone(),
        config.wasm.values_mib_max,
    ));
    tokio::spawn(extensions.clone().deliver());
    if let Some(folder) = config.extensions.folder {
        tokio::spawn(extensions.clone().follow_folder(folder, config.extensions.reload));
    }
    tokio::spawn(collector.run());
    crate::heap::keep_small();

    let end = CancellationToken::new();
    let draining = tokio::spawn(drains.run(end.clone()));
    let measures = Measures::open(&data.root.join("measures"), config.measures);
    let sources = Sources {
        agent: agent.clone(),
        router: router.clone(),
        wasm: WorkerClient::at(data.control_folder().join("wasm.sock")),
        store: store.clone(),
        data: data.root.clone(),
    };
    tokio::spawn(measures.clone().run(sources, end.clone()));
    let (api_address, ssh_address) = (api.local_addr()?, ssh.local_addr()?);
    let mut platform = http::Platform::new(
        store.clone(),
        Arc::new(actions),
        now_ms,
        config.api_hosts,
        http,
        ssh_address,
    );
    platform.attempts = attempts.clone();
    platform.sign_in = SignIn::new(config.console);
    platform.measures = measures;
    platform.private_drains = config.drains.private_addresses;
    let api_router = http::router(Arc::new(platform), berth_push::http_router(push.clone()));
    let limits = Limits { connections_max: config.api.connections_max, ..Limits::default() };
    let api = tokio::net::TcpListener::from_std(api)?;
    let api_server = tokio::spawn(listener::serve(api, api_router, limits, end.clone()));
    let host_key = berth_push::host_key(&state.join("ssh_host_ed25519_key"))?;
    ssh.set_nonblocking(true)?;
    let ssh_listener = tokio::net::TcpListener::from_std(ssh)?;
    let ssh_end = end.clone();
    let ssh_server =
        tokio::spawn(
            async move { berth_push::serve_ssh(ssh_listener, push, host_key, ssh_end).await },
        );
    say_ready(api_address, ssh_address, http)?;
    if let Some(link) = console_link {
        say_link(&link, &data.console_link());
    }

    let code = until_end(&agent, asked_down).await?;
    end.cancel();
    deploys.close();
    let _ = tokio::time::timeout(Duration::from_secs(3), async {
        let _ = api_server.await;
        let _ = ssh_server.await;
        let _ = draining.await;
    })
    .await;
    attempts.close().await;
    store.close().await;
    Ok(code)
}

/// The operator's own proxy, through which builds reach the world.
fn upstream() -> Result<Option<Upstream>> {
    let value = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok());
    let Some(url) = value(["HTTPS_PROXY", "https_proxy"]).filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    let except = value(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    Upstream::parse(&url, &except).map(Some).context("HTTPS_PROXY cannot be used")
}

/// What builds with the buildpacks that ship with Berth.
fn builder(
    shipped: Vec<Loaded>,
    compiler: &Compiler,
    policy: &Arc<Policy>,
    data: &crate::data_folder::DataFolder,
) -> Result<Builder> {
    let settings = berth_build::Settings {
        network: Arc::clone(policy),
        env: berth_build::proxy::variables(&policy.mirrors),
        ..berth_build::Settings::default()
    };
    let inventory = Inventory::load(Some(&data.root.join("inventory")))?;
    let blobs = BlobStore::clone(&compiler.blobs);
    Ok(Builder::new(compiler.agent.clone(), blobs, shipped, inventory, settings))
}

/// Tells the starter where everything listens, on standard output.
fn say_ready(api: SocketAddr, ssh: SocketAddr, http: SocketAddr) -> Result<()> {
    let line = serde_json::json!({ "api": api, "ssh": ssh, "http": http });
    let mut out = std::io::stdout();
    // A starter that does not listen is no reason to end.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    tracing::info!(%api, %ssh, %http, "serving");
    Ok(())
}

/// Tells whoever started the platform for the first time how to sign in. A log is no place for what
/// is secret: only a terminal gets the link itself.
fn say_link(link: &str, path: &std::path::Path) {
    let mut err = std::io::stderr();
    if std::io::IsTerminal::is_terminal(&err) {
        let _ = writeln!(err, "Sign in to the console, once and soon: {link}");
    } else {
        tracing::info!(
            "the link to sign in to the console, once and soon, is in {}",
            path.display()
        );
    }
}

/// Waits for a signal, or for the end of the agent.
async fn until_end(
    agent: &berth_container::Agent,
    mut asked_down: tokio::sync::watch::Receiver<Option<u32>>,
) -> Result<u8> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let agent_ended = agent_ended(agent.clone());
    tokio::select! {
        _ = terminate.recv() => Ok(0),
        _ = interrupt.recv() => {
            tracing::info!("stopping the apps, the router and the agent");
            let down = agent.call(&Request::Down { grace_ms: 10_000 }, &[]);
            tokio::select! {
                done = down => { done?; }
                _ = interrupt.recv() => { agent.call(&Request::Down { grace_ms: 0 }, &[]).await?; }
            }
            Ok(0)
        }
        Ok(()) = asked_down.changed() => {
            let grace_ms = asked_down.borrow().unwrap_or(0);
            agent.call(&Request::Down { grace_ms }, &[]).await?;
            Ok(0)
        }
        code = agent_ended => Ok(code),
    }
}

/// A connection that the agent answers on only when something changes ends with the agent.
async fn agent_ended(agent: berth_container::Agent) -> u8 {
    loop {
        match agent.session(&Request::Watch, &[]).await {
            Ok(mut session) => {
                while let Ok((Reply::Instances { .. }, _)) = session.reply().await {}
            }
            Err(berth_container::AgentError::Unreachable { .. }) => {
                tracing::error!(
                    "berth-agent has ended; ending with it, to be started again together"
                );
                return AGENT_LOST;
            }
            Err(error) => tracing::warn!("the agent: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
