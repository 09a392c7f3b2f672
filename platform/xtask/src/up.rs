//! `cargo xtask up`: a platform in the foreground with four apps, each deployed by a real
//! `git push`. Ctrl-C stops everything; apps and data come back the next time.

mod platform;
mod samples;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

use crate::{build, setup, shell};
use platform::Platform;

/// Installs, builds, starts, deploys and stays until Ctrl-C.
pub(crate) fn run() -> Result<()> {
    setup::for_up()?;
    let programs = build::all()?;
    let interrupts = Arc::new(AtomicUsize::new(0));
    let platform = Platform::start(&programs)?;
    count_interrupts(&interrupts, &platform)?;

    let deployed = platform
        .wait_until_healthy(&interrupts)
        .and_then(|()| samples::deploy(&programs, &platform, &interrupts));
    match deployed {
        Ok(urls) => {
            what_next(&programs, &urls);
            platform.wait_for_interrupt(&interrupts);
        }
        Err(error) if interrupts.load(Ordering::SeqCst) == 0 => {
            shell::say(&format!(" !     {error:#}"));
            platform.stop(&interrupts)?;
            return Err(error);
        }
        Err(_interrupted) => {}
    }
    platform.stop(&interrupts)
}

/// The first Ctrl-C stops with grace, the second at once.
fn count_interrupts(interrupts: &Arc<AtomicUsize>, platform: &Platform) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
    ])
    .context("cannot watch for Ctrl-C")?;
    let (interrupts, down) = (Arc::clone(interrupts), platform.down_at_once());
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if interrupts.fetch_add(1, Ordering::SeqCst) == 1 {
                down();
            }
        }
    });
    Ok(())
}

fn what_next(programs: &std::path::Path, urls: &[(String, String)]) {
    shell::say("\n=====> Berth is up");
    for (name, url) in urls {
        shell::say(&format!("       {name:<8} {url}"));
    }
    let (name, url) = urls.first().cloned().unwrap_or_default();
    let port = url.rsplit(':').next().unwrap_or("8080").trim_end_matches('/').to_owned();
    shell::say(&format!(
        "\n       In another terminal:\n\
         \n       export PATH={programs}:$PATH BERTH_TOKEN=$(cat {token})\
         \n       berth apps list\
         \n       berth logs --app {name} -f\
         \n       curl -H 'Host: {name}.localhost' http://127.0.0.1:{port}/\
         \n\n       To deploy an app of your own, in its git repository:\n\
         \n       berth apps create my-app && git push berth HEAD:main\
         \n\n       Ctrl-C stops the platform; apps and data come back with the next `cargo xtask up`.",
        programs = programs.display(),
        token = platform::TOKEN,
    ));
}
