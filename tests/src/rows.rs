//! A look into a platform's database from outside, as SQLite's own shell gives it.
//!
//! Read-only, in a process of its own, so that it can be asked while `berthd` is stopped.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Platform;

/// What is printed after each answer.
const MARK: &str = "-- that is all --";

/// The database of one platform.
pub struct Rows {
    shell: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Rows {
    /// Opens it.
    ///
    /// # Panics
    /// When there is no `sqlite3`.
    pub fn of(platform: &Platform) -> Self {
        let mut shell = Command::new("sqlite3")
            .args(["-readonly", "-noheader", "-list"])
            .arg(platform.data.join("state/berth.sqlite"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sqlite3 starts");
        let questions = shell.stdin.take().expect("a pipe");
        let answers = BufReader::new(shell.stdout.take().expect("a pipe"));
        Self { shell, questions, answers }
    }

    /// The answer to a query: a line a row, `|` between columns.
    ///
    /// # Panics
    /// When the shell has ended.
    pub fn ask(&mut self, query: &str) -> String {
        writeln!(self.questions, "{query};\n.print '{MARK}'").expect("sqlite3 listens");
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            let count = self.answers.read_line(&mut line).expect("sqlite3 answers");
            assert!(count > 0, "sqlite3 ended at {query}");
            if line.trim_end() == MARK {
                return answer.trim_end().to_owned();
            }
            answer.push_str(&line);
        }
    }

    /// The answer, which is one number.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn number(&mut self, query: &str) -> i64 {
        let answer = self.ask(query);
        answer.parse().unwrap_or_else(|_| panic!("{query}: {answer:?}"))
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // One that has ended already is fine.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
