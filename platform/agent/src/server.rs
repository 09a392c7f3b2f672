//! Listens, checks who calls, and hands each request to its verb.
//!
//! One thread per connection, one request per connection. The peer's user id comes from the
//! kernel; whoever is neither root nor the control id is refused before a byte is looked at. A message
//! that is not exactly one of the protocol's requests is refused.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_container::{FailureCode, PROTOCOL, Program, Reply, Request};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

use crate::connection::{Connection, Woken};
use crate::context::Context;
use crate::failure::{Because, Failure};
use crate::{
    down, exec, gc, instances, layers, measures, stack, start, stop, tool, volumes, worker,
};

/// What a verb gives: its last reply with descriptors.
pub(crate) type Answer = Result<(Reply, Vec<OwnedFd>), Failure>;

/// Connections at one time; one more is refused.
const CONNECTIONS_MAX: usize = 512;
/// A caller must send its request within this.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// Binds the agent's socket in the run folder; a stale one is replaced, because the caller holds
/// the data folder's lock.
pub(crate) fn bind_socket(run: &std::path::Path) -> Result<OwnedFd, Failure> {
    let path = Context::socket(run);
    let _ = std::fs::remove_file(&path);
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .because(|| "making the agent's socket")?;
    let address = SocketAddrUnix::new(&path).because(|| format!("naming {}", path.display()))?;
    bind(&socket, &address).because(|| format!("binding {}", path.display()))?;
    // Whoever connects is checked by user id; the mode only has to let the control id try.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .because(|| format!("opening {} to callers", path.display()))?;
    listen(&socket, 128).because(|| format!("listening on {}", path.display()))?;
    Ok(socket)
}

/// Accepts connections until the process ends.
pub(crate) fn serve(context: &Arc<Context>, listener: &OwnedFd) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let socket = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let connection = Connection::new(socket);
        if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::AcqRel);
            let refusal =
                Failure::new(FailureCode::Limit, "the agent has too many connections; try again");
            let _ = connection.fail(&refusal);
            continue;
        }
        let (context, count) = (Arc::clone(context), Arc::clone(&open));
        let started = std::thread::Builder::new().name("connection".into()).spawn(move || {
            answer(&context, &connection);
            drop(connection);
            count.fetch_sub(1, Ordering::AcqRel);
        });
        if let Err(error) = started {
            open.fetch_sub(1, Ordering::AcqRel);
            // The connection was dropped with the closure: the caller sees it closed.
            eprintln!("berth-agent: cannot start a thread: {error}");
        }
    }
}

/// Carries out the one request of a connection.
fn answer(context: &Arc<Context>, connection: &Connection) {
    let outcome = request(context, connection)
        .and_then(|(request, descriptors)| dispatch(context, connection, request, descriptors));
    let sent = match outcome {
        Ok((reply, descriptors)) => connection.reply(&reply, &descriptors),
        Err(failure) => {
            context.log.line(format_args!("{:?}: {failure}", failure.code));
            connection.fail(&failure)
        }
    };
    if let Err(error) = sent
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        context.log.line(format_args!("a reply could not be sent: {error}"));
    }
}

fn request(context: &Context, connection: &Connection) -> Result<(Request, Vec<OwnedFd>), Failure> {
    let peer = rustix::net::sockopt::socket_peercred(connection.socket())
        .because(|| "reading who calls")?;
    let woken = connection
        .wait(None, Some(Instant::now() + REQUEST_TIME_MAX))
        .because(|| "waiting for a request")?;
    if woken == Woken::Late {
        return Err(Failure::refused("no request came within 10 seconds"));
    }
    // Taken from the socket in any case: a close over an unread message would lose the refusal.
    let received = berth_container::client::receive(connection.socket().as_fd());
    let uid = peer.uid.as_raw();
    if uid != 0 && uid != context.ids.control {
        return Err(Failure::refused(format!("user id {uid} may not speak to the agent")));
    }
    let (bytes, descriptors) = received
        .map_err(|error| Failure::refused(format!("the message could not be read: {error}")))?;
    let request = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::refused(format!("the message is not a request of protocol {PROTOCOL}: {error}"))
    })?;
    Ok((request, descriptors))
}

/// One line per verb; what it takes beside the context is in the protocol's comments.
fn dispatch(
    context: &Arc<Context>,
    connection: &Connection,
    request: Request,
    fds: Vec<OwnedFd>,
) -> Answer {
    match request {
        Request::Hello { protocol } => hello(context, protocol),
        Request::Start(request) => start::handle(context, request, fds),
        Request::Stop { instance, grace_ms } => stop::handle(context, instance, grace_ms),
        Request::Exec { instance, tty, time_ms_max } => {
            exec::handle(context, connection, instance, tty, time_ms_max, fds)
        }
        Request::List => instances::list(context),
        Request::Watch => instances::watch(context, connection),
        Request::Measures => measures::handle(context),
        Request::Logs { instance } => instances::logs(context, instance),
        Request::AddressFree { instance } => {
            context.instances.address_released(instance)?;
            Ok((Reply::Done {}, Vec::new()))
        }
        Request::Gc => gc::handle(context, fds),
        Request::VolumeList => volumes::list(context),
        Request::VolumeRemove { volume } => volumes::remove(context, volume),
        Request::CacheDrop { app } => gc::drop_caches(context, app),
        Request::Retire => down::retire(context, connection),
        Request::Down { grace_ms } => down::handle(context, connection, grace_ms),
        Request::LayerUnpack { diff_id } => layers::unpack(context, connection, diff_id, fds),
        Request::LayerList => layers::list(context),
        Request::LayerSeal { instance, part } => {
            layers::seal(context, connection, instance, part, fds)
        }
        Request::Worker { program } => {
            if program == Program::Route {
                context.net.open_router_ports(&fds)?;
            }
            worker::ensure(context, program, fds)
        }
        Request::Tool { tool } => tool::run(context, connection, tool, fds),
        Request::Stack { stack } => {
            stack::make(context, connection, stack::packages_of(stack), fds)
        }
        Request::StackFind { stack } => stack::find(&stack::packages_of(stack), fds),
        Request::AddonStack { packages } => {
            stack::make(context, connection, stack::packages_of_addon(&packages)?, fds)
        }
        Request::AddonStackFind { packages } => {
            stack::find(&stack::packages_of_addon(&packages)?, fds)
        }
    }
}

fn hello(context: &Context, protocol: u32) -> Answer {
    if protocol != PROTOCOL && protocol + 1 != PROTOCOL {
        return Err(Failure::refused(format!(
            "protocol {protocol} is not understood: this agent speaks {PROTOCOL}"
        )));
    }
    let reply = Reply::Hello {
        protocol: PROTOCOL,
        build: context.build.clone(),
        ids: context.ids,
        network: context.network,
    };
    Ok((reply, Vec::new()))
}

impl Connection {
    fn fail(&self, failure: &Failure) -> io::Result<()> {
        let reply = Reply::Failed { code: failure.code, message: failure.message.clone() };
        self.reply(&reply, &[])
    }
}
