//! The real programs, started as an operator starts them, and what the flows need of them.
//!
//! A [`Platform`] is `berthd serve` on ports of its own with a data folder of its own; dropping it
//! stops everything it started, also when a test fails.

pub mod browser;
pub mod extensions;
pub mod freeze;
pub mod load;
pub mod looker;
pub mod platform;
pub mod repository;
pub mod rows;
pub mod scene;
pub mod traces;

pub use browser::Browser;
pub use load::Load;
pub use looker::Looker;
pub use platform::Platform;
pub use repository::Repository;
pub use rows::Rows;
pub use scene::Scene;

/// Waits for something that other processes bring about.
///
/// # Panics
/// When it has not come after `seconds`.
#[track_caller]
pub fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed().as_secs() < seconds, "waited {seconds} s for {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
