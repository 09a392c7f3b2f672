//! Runs for long what the tests do for short.

use anyhow::Result;

use crate::shell;

/// Reloads of one extension, after which memory must be where it was.
const RELOADS: u32 = 10_000;

/// Reloads an extension again and again, and prints the memory before and after.
pub(crate) fn reload() -> Result<()> {
    shell::say(&format!("-----> Reloading an extension {RELOADS} times"));
    let test = "folder::reloads_leave_no_memory_behind";
    shell::run(
        shell::command("cargo")
            // With the features of the suites, so that nothing is compiled for this alone.
            .args(["test", "--locked", "--workspace", "--exclude", "acceptance"])
            .args(["--test", "extensions", test])
            .args(["--", "--exact", "--nocapture"])
            .env("BERTH_RELOADS", RELOADS.to_string()),
    )
}
