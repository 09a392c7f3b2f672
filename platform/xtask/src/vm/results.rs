//! What the machine's console says of the tests.

use anyhow::{Result, bail};

/// Marks of the script, which no test prints at the start of a line.
const FILE: &str = "berth-vm: file ";
const DONE: &str = "berth-vm: done";

/// Counted from the console.
#[derive(Debug, Default)]
pub(super) struct Results {
    passed: u32,
    failed: Vec<String>,
    /// Test files that ended, and those of them that ended well.
    files: usize,
    files_well: usize,
    done: bool,
}

impl Results {
    /// Takes one line of the console.
    pub(super) fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix(FILE) {
            self.files += 1;
            self.files_well += usize::from(rest.ends_with(" ended with 0"));
        } else if line == DONE {
            self.done = true;
        } else if let Some(name) = line.strip_prefix("test ") {
            if let Some((name, _)) = name.split_once(" ... FAILED") {
                self.failed.push(name.to_owned());
            } else if name.ends_with(" ... ok") {
                self.passed += 1;
            }
        }
    }

    /// One line for people.
    pub(super) fn summary(&self) -> String {
        format!("on cgroup v2: {} tests passed, {} failed", self.passed, self.failed.len())
    }

    /// Whether all that should have run did, and passed. `all`: no test was filtered out, so that
    /// none at all is a failure.
    pub(super) fn judge(&self, files: usize, all: bool) -> Result<()> {
        if !self.failed.is_empty() {
            bail!("failed on cgroup v2: {}", self.failed.join(", "));
        }
        if !self.done || self.files != files || self.files_well != files {
            bail!(
                "the machine ended before its tests did: {} of {files} test files ended well",
                self.files_well
            );
        }
        if all && self.passed == 0 {
            bail!("no test ran on cgroup v2");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Results {
        let mut results = Results::default();
        text.lines().for_each(|line| results.line(line));
        results
    }

    #[test]
    fn a_run_passes_only_when_every_file_ended_well_and_something_ran() {
        let whole = "test a::b ... ok\nberth-vm: file /t/x ended with 0\nberth-vm: done\n";
        assert!(read(whole).judge(1, true).is_ok());
        assert!(read(whole).judge(2, true).is_err(), "a file is missing");
        assert!(read(&whole.replace("berth-vm: done", "")).judge(1, true).is_err(), "cut off");
        assert!(read(&whole.replace(" 0", " 101")).judge(1, true).is_err(), "a file failed");
        let failed = read(&whole.replace("... ok", "... FAILED")).judge(1, true);
        assert!(failed.is_err_and(|error| error.to_string().contains("a::b")));
        assert!(read(&whole.replace("test a::b ... ok", "")).judge(1, true).is_err(), "none ran");
    }
}
