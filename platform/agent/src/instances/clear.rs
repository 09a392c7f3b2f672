//! Clears away what an ended container left: processes, control group, interface, disk, folders.
//! Mounts end with the run process's namespace.

use std::fs;
use std::path::Path;

use berth_container::Exit;
use berth_container::logfile::LogWriter;
use berth_model::InstanceId;
use berth_model::log::LogStream;

use crate::context::Context;
use crate::disk;
use crate::failure::{Because, Failure};
use crate::network;
use crate::run_wire::{RunSpec, now_ms, read_exit, write_exit};

/// What is said of a container whose run process could not say anything: killed.
const KILLED: Exit = Exit { code: 137, oom: false, timed_out: false, memory_peak_bytes: 0 };

/// Leaves `spec.json` and `exit.json` and the logs; says how the container ended. The run process
/// must be gone.
pub(super) fn clear(context: &Context, spec: &RunSpec) -> Result<Exit, Failure> {
    spec.leaf.kill()?;
    let folder = context.instance_run(spec.instance);
    let exit = match read_exit(&folder) {
        Some(exit) => exit,
        None => {
            let exit = Exit { memory_peak_bytes: spec.leaf.memory_peak_bytes(), ..KILLED };
            close_log(spec);
            write_exit(&folder, &exit)?;
            exit
        }
    };
    spec.leaf.remove()?;
    if let Some((address, _)) = spec.plug {
        network::unplug(context.net.namespace(), address)?;
    }
    disk::remove(&spec.disk)?;
    let kept = ["spec.json", "exit.json"];
    let entries = fs::read_dir(&folder).because(|| format!("listing {}", folder.display()))?;
    for entry in
        entries.flatten().filter(|entry| !kept.iter().any(|name| entry.file_name() == *name))
    {
        remove_folder(&entry.path())?;
    }
    Ok(exit)
}

/// A log that its writer could not close.
fn close_log(spec: &RunSpec) {
    if let Ok(mut log) = LogWriter::open(&spec.logs(), spec.log) {
        let text = b"ended: its run process was killed";
        log.line(0, LogStream::System, now_ms() * 1_000_000, text, false);
        log.close();
    }
}

/// Forgets a container that is gone: its run folder. Its logs stay.
pub(crate) fn forget(context: &Context, instance: InstanceId) -> Result<(), Failure> {
    remove_folder(&context.instance_run(instance))?;
    context.instances.forget(instance)
}

/// Removes a folder of ours, or a file; one that is not there is fine. Links are not followed.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Failure> {
    let kind = match fs::symlink_metadata(path) {
        Ok(kind) => kind,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).because(|| format!("looking at {}", path.display())),
    };
    let removed = if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.because(|| format!("removing {}", path.display()))
}
