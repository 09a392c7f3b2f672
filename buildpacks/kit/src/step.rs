//! A step in the build container, written as a sentence.

use crate::bindings::berth::buildpack::tools;
use crate::{Failure, failure};

/// A step that is being described; `run` runs it.
#[derive(Debug, Clone)]
pub struct Step(tools::Step);

/// A step that ended.
#[derive(Debug)]
pub struct Finished {
    name: String,
    outcome: tools::Outcome,
}

/// A step that runs a POSIX shell script, which ends at its first error.
pub fn shell(script: &str) -> Step {
    Step::new(&["sh", "-euc", script])
}

impl Step {
    /// A step that sees the whole tree, has no network and shows its output.
    pub fn new(argv: &[&str]) -> Self {
        Self(tools::Step {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            working_dir: None,
            env: Vec::new(),
            inputs: None,
            caches: Vec::new(),
            writes: Vec::new(),
            network: vec!["none".to_owned()],
            show: true,
            capture: false,
            extra: Vec::new(),
        })
    }

    /// What the push output calls it; else its argument vector is shown.
    pub fn title(mut self, title: &str) -> Self {
        self.0.extra.retain(|(name, _)| name != "title");
        self.0.extra.push(("title".to_owned(), title.to_owned()));
        self
    }

    /// Another working directory.
    pub fn at(mut self, directory: &str) -> Self {
        self.0.working_dir = Some(directory.to_owned());
        self
    }

    /// One more variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sees only the source files that match; they are copied into the working directory.
    pub fn inputs(mut self, patterns: &[String]) -> Self {
        self.0.inputs = Some(patterns.to_vec());
        self
    }

    /// Uses a named cache.
    pub fn cache(mut self, name: &str) -> Self {
        self.0.caches.push(name.to_owned());
        self
    }

    /// Fills a layer of this buildpack, or `workspace`.
    pub fn writes(mut self, name: &str) -> Self {
        self.0.writes.push(name.to_owned());
        self
    }

    /// May reach the hosts of a role, or `all`.
    pub fn network(mut self, role: &str) -> Self {
        self.0.network = vec![role.to_owned()];
        self
    }

    /// Its output is not shown.
    pub fn quiet(mut self) -> Self {
        self.0.show = false;
        self
    }

    /// Its standard output comes back.
    pub fn capture(mut self) -> Self {
        self.0.capture = true;
        self
    }

    /// Runs it, whatever its exit code.
    ///
    /// # Errors
    /// The host could not run it.
    pub fn run(self) -> Result<Finished, Failure> {
        let name = self.0.argv.iter().take(3).cloned().collect::<Vec<_>>().join(" ");
        let title =
            self.0.extra.iter().find(|(key, _)| key == "title").map(|(_, title)| title.clone());
        Ok(Finished { name: title.unwrap_or(name), outcome: tools::run(&self.0)? })
    }
}

impl Finished {
    /// Whether it ended with 0.
    pub fn succeeded(&self) -> bool {
        self.outcome.exit_code == 0
    }

    /// Its standard output, if it was captured.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.outcome.stdout).into_owned()
    }

    /// Itself when it ended with 0.
    ///
    /// # Errors
    /// A failure that says how it ended, and then `advice`.
    pub fn or_fail(self, code: &str, advice: &str) -> Result<Self, Failure> {
        if self.succeeded() {
            return Ok(self);
        }
        let end = match &self.outcome {
            outcome if outcome.oom_killed => "ran out of memory".to_owned(),
            outcome if outcome.timed_out => "ran out of time".to_owned(),
            outcome => format!("failed with exit code {}", outcome.exit_code),
        };
        Err(failure(code, format!("'{}' {end}. {advice}", self.name)))
    }
}
