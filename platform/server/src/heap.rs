//! Memory that is free goes back to the system.
//!
//! The C library keeps what was freed for the next one who asks, also where it was a burst: a
//! deployment, the description of a compiled component, the first minute of a thousand apps. A
//! platform that idles would hold it for ever, in holes between the little that is still used.

use std::time::Duration;

/// Giving back takes milliseconds, in which others wait who allocate: it is rare, and soon enough
/// for what is left of a burst.
const PERIOD: Duration = Duration::from_secs(15);

/// Gives back the whole pages that are free, now and then, from a thread of its own. Without one,
/// which only a machine at its limits does not give, memory stays as it is.
pub(crate) fn keep_small() {
    let thread = std::thread::Builder::new().name("heap".to_owned()).stack_size(64 * 1024);
    let started = thread.spawn(|| {
        loop {
            std::thread::sleep(PERIOD);
            give_back();
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "memory that is free is not given back");
    }
}

#[cfg(target_env = "gnu")]
fn give_back() {
    #[expect(unsafe_code, reason = "a call of the C library, which takes its own locks")]
    // SAFETY: it may be called at any time from any thread (malloc_trim(3): MT-Safe).
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}
