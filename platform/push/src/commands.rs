//! What a push asks for, as the hook hears it, and what is answered. Pure.

use std::collections::HashSet;

use git2::Oid;

/// Longest ref name, bytes: what a file system takes in one piece, with a margin.
const REF_BYTES_MAX: usize = 240;

/// One ref that a push wants to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) old: Option<Oid>,
    pub(crate) new: Option<Oid>,
    pub(crate) name: String,
}

impl Command {
    /// Reads `<old> <new> <ref>`, 40 zeros for none.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let mut parts = text.splitn(3, ' ');
        let (old, new, name) = (parts.next()?, parts.next()?, parts.next()?);
        let printable = !name.is_empty() && !name.chars().any(|c| c.is_control() || c == ' ');
        printable.then_some(())?;
        Some(Self { old: id(old)?, new: id(new)?, name: name.to_owned() })
    }

    /// The branch, if the ref is one.
    pub(crate) fn branch(&self) -> Option<&str> {
        self.name.strip_prefix("refs/heads/")
    }

    /// The tag, if the ref is one.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.name.strip_prefix("refs/tags/")
    }
}

fn id(text: &str) -> Option<Option<Oid>> {
    if text.len() != 40 {
        return None;
    }
    let id = Oid::from_str(text).ok()?;
    Some((!id.is_zero()).then_some(id))
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The ref was moved; `Some` when it names another object than was asked for.
    Moved(Option<Oid>),
    /// One short line for people.
    Refused(String),
}

impl Verdict {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }
}

/// Looks at names and numbers alone: what is refused before anything else is asked.
pub(crate) fn refuse_early(commands: &[Command], updates_max: usize) -> Vec<Option<Verdict>> {
    if commands.len() > updates_max {
        let reason = format!("at most {updates_max} refs can be updated in one push");
        return vec![Some(Verdict::Refused(reason)); commands.len()];
    }
    let mut seen = HashSet::new();
    commands
        .iter()
        .map(|command| {
            let reason = if command.branch().is_none() && command.tag().is_none() {
                "only branches and tags can be pushed"
            } else if !git2::Reference::is_valid_name(&command.name)
                || command.name.len() > REF_BYTES_MAX
            {
                "the name of the ref is not valid here"
            } else if !seen.insert(command.name.as_str()) {
                "the ref is there twice"
            } else if command.old.is_none() && command.new.is_none() {
                "there is nothing to delete"
            } else {
                return None;
            };
            Some(Verdict::refused(reason))
        })
        .collect()
}

/// Which branch becomes the deploy branch with a first push of these commands: `main` or `master`
/// if one of them is there, else the first.
pub(crate) fn first_branch(commands: &[&Command]) -> Option<String> {
    let branches: Vec<&str> =
        commands.iter().filter(|c| c.new.is_some()).filter_map(|c| c.branch()).collect();
    ["main", "master"]
        .into_iter()
        .find(|usual| branches.contains(usual))
        .or(branches.first().copied())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "0000000000000000000000000000000000000000";
    const ONE: &str = "1111111111111111111111111111111111111111";

    fn command(name: &str) -> Command {
        Command::parse(format!("{ZERO} {ONE} {name}").as_bytes()).unwrap()
    }

    #[test]
    fn commands_are_read_and_others_are_not() {
        let creation = command("refs/heads/main");
        assert_eq!((creation.old, creation.branch()), (None, Some("main")));
        for line in [
            "",
            "x",
            &format!("{ZERO} {ONE}"),
            &format!("{ZERO} {ONE} a b"),
            &format!("{ZERO} 1111 refs/heads/a"),
            &format!("{ZERO} {ONE} refs/heads/\u{1b}"),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn only_valid_branches_and_tags_pass() {
        let long = format!("refs/heads/{}", "x".repeat(240));
        for (name, passes) in [
            ("refs/heads/main", true),
            ("refs/tags/v1", true),
            ("refs/heads/a/b", true),
            ("refs/notes/x", false),
            ("refs/for/main", false),
            ("HEAD", false),
            ("refs/heads/", false),
            ("refs/heads/a..b", false),
            ("refs/heads/a.lock", false),
            ("refs/heads/../x", false),
            (&long, false),
        ] {
            let verdicts = refuse_early(&[command(name)], 32);
            assert_eq!(verdicts == [None], passes, "{name}: {verdicts:?}");
        }
    }

    #[test]
    fn too_many_and_repeated_updates_are_refused() {
        let many: Vec<_> = (0..33).map(|n| command(&format!("refs/tags/{n}"))).collect();
        assert!(refuse_early(&many, 32).iter().all(Option::is_some));
        assert!(refuse_early(&many[..32], 32).iter().all(Option::is_none));
        let twice = [command("refs/heads/a"), command("refs/heads/a")];
        assert_eq!(refuse_early(&twice, 32)[0], None);
        assert!(refuse_early(&twice, 32)[1].is_some());
    }

    #[test]
    fn the_usual_branch_is_chosen_from_several() {
        let all = [command("refs/tags/v1"), command("refs/heads/dev"), command("refs/heads/main")];
        let all: Vec<&Command> = all.iter().collect();
        assert_eq!(first_branch(&all), Some("main".to_owned()));
        assert_eq!(first_branch(&all[..2]), Some("dev".to_owned()));
        assert_eq!(first_branch(&all[..1]), None);
    }
}
