//! `cargo xtask up`: a platform in the foreground with four apps, each deployed by a real
//! `git push`. Ctrl-C stops everything; apps and data come back the next time.

mod addresses;
mod platform;
mod samples;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

use crate::{build, setup, shell};
use addresses::Addresses;
use platform::Platform;

/// Installs, builds, starts, deploys and stays until Ctrl-C.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let addresses = Addresses::parse(arguments)?;
    addresses.check(platform::DATA)?;
    setup::for_up()?;
    let programs = build::all(build::Profile::Dev)?;
    // The build took its time.
    addresses.check(platform::DATA)?;
    shell::authorize()?;
    let interrupts = Arc::new(AtomicUsize::new(0));
    let platform = Platform::start(&programs, addresses)?;
    count_interrupts(&interrupts, &platform)?;
    let interrupted = || interrupts.load(Ordering::SeqCst) > 0;

    if let Err(error) = platform.wait_until_healthy(&interrupts)
        && !interrupted()
        && platform.ended().is_some()
    {
        // It never ran: what runs in the data folder, if anything, is somebody else's.
        return Err(error);
    }
    let served = samples::deploy(&programs, &platform, &interrupts).and_then(|urls| {
        what_next(&programs, &addresses, &urls);
        platform.wait_for_interrupt(&interrupts)
    });
    // The end of a child by the same Ctrl-C is no failure.
    let served = if interrupted() { Ok(()) } else { served };
    if let Err(error) = &served {
        shell::say(&format!(" !     {error:#}"));
    }
    let stopped = platform.stop();
    served.and(stopped)
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

fn what_next(programs: &std::path::Path, addresses: &Addresses, urls: &[(String, String)]) {
    shell::say("\n=====> Berth is up");
    for (name, url) in urls {
        shell::say(&format!("       {name:<8} {url}"));
    }
    let name = urls.first().map_or("static", |(name, _)| name);
    let server = if addresses.api == Addresses::default().api {
        String::new()
    } else {
        format!(" BERTH_SERVER=http://{}", addresses.api)
    };
    shell::say(&format!(
        "\n       In another terminal:\n\
         \n       export PATH={programs}:$PATH BERTH_TOKEN=$(cat {token}){server}\
         \n       berth apps list\
         \n       berth logs --app {name} -f\
         \n       curl -H 'Host: {name}.localhost' http://{http}/\
         \n\n       To deploy an app of your own, in its git repository:\n\
         \n       berth apps create my-app && git push berth HEAD:main\
         \n\n       Ctrl-C stops the platform; apps and data come back with the next `cargo xtask up`.",
        programs = programs.display(),
        token = platform::TOKEN,
        http = addresses.http,
    ));
}
