//! Versions of Node: ranges as npm reads them, files as nvm writes them, and the choice. Pure.

/// The line that is chosen where the app leaves it open: the newest with long-term support.
pub(crate) const RECOMMENDED: u64 = 24;

/// Names of the lines with long-term support.
const CODENAMES: [(&str, u64); 3] = [("iron", 20), ("jod", 22), ("krypton", 24)];

pub(crate) type Version = [u64; 3];

/// A set of versions: any of the alternatives, each of which has a lower bound and an upper one that
/// is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range(Vec<(Version, Version)>);

const NONE: Version = [0, 0, 0];
const ALL: Version = [u64::MAX, 0, 0];

impl Range {
    /// `^20.1`, `>=18 <21`, `20.x || 22`, `18 - 20`, `*`; also nvm's `lts/*`, `lts/jod`, `node`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let line = |major: u64| Some(Self(vec![([major, 0, 0], [major + 1, 0, 0])]));
        match text.to_ascii_lowercase().as_str() {
            "" | "*" | "x" | "latest" | "node" | "stable" | "current" => {
                return Some(Self(vec![(NONE, ALL)]));
            }
            "lts" | "lts/*" | "lts/-0" => return line(RECOMMENDED),
            other => {
                if let Some(name) = other.strip_prefix("lts/") {
                    return CODENAMES
                        .iter()
                        .find(|(codename, _)| *codename == name)
                        .and_then(|(_, major)| line(*major));
                }
            }
        }
        text.split("||").map(alternative).collect::<Option<Vec<_>>>().map(Self)
    }

    pub(crate) fn contains(&self, version: Version) -> bool {
        self.0.iter().any(|(from, to)| *from <= version && version < *to)
    }
}

fn alternative(text: &str) -> Option<(Version, Version)> {
    if let Some((from, to)) = text.split_once(" - ") {
        return Some((span(from)?.0, span(to)?.1));
    }
    let (mut low, mut high) = (NONE, ALL);
    // An operator may stand apart from its version.
    let mut text = text.replace(['\t', ','], " ");
    for operator in [">=", "<=", ">", "<", "^", "~", "="] {
        while text.contains(&format!("{operator} ")) {
            text = text.replace(&format!("{operator} "), operator);
        }
    }
    for word in text.split_whitespace() {
        let at = word.find(|c: char| !"<>=^~".contains(c))?;
        let (from, to) = span(&word[at..])?;
        let (from, to) = match &word[..at] {
            "" | "=" => (from, to),
            ">=" => (from, ALL),
            ">" => (to, ALL),
            "<" => (NONE, from),
            "<=" => (NONE, to),
            // The parts that are given may rise, but for the first that is not zero.
            "^" => {
                let parts = parts(&word[at..])?;
                let fixed = parts
                    .iter()
                    .position(|part| *part != 0)
                    .unwrap_or(parts.len().saturating_sub(1))
                    .min(2);
                (from, after(from, fixed))
            }
            "~" | "~>" => (from, after(from, parts(&word[at..])?.len().saturating_sub(1).min(1))),
            _ => return None,
        };
        low = low.max(from);
        high = high.min(to);
    }
    Some((low, high))
}

/// All versions that a perhaps partial version means: `20` is from 20.0.0 up to 21.0.0.
fn span(text: &str) -> Option<(Version, Version)> {
    let parts = parts(text)?;
    let mut from = NONE;
    for (at, part) in parts.iter().enumerate() {
        from[at] = *part;
    }
    Some(if parts.is_empty() { (NONE, ALL) } else { (from, after(from, parts.len() - 1)) })
}

/// The given parts of a version, up to the first wildcard.
fn parts(text: &str) -> Option<Vec<u64>> {
    let text = text.trim().trim_start_matches(['v', 'V', '=']);
    let text = text.split(['-', '+']).next()?;
    let mut parts = Vec::new();
    for part in text.split('.') {
        match part {
            "x" | "X" | "*" => break,
            number => parts.push(number.parse().ok().filter(|_| number.len() <= 9)?),
        }
    }
    (parts.len() <= 3).then_some(parts)
}

/// The first version in which the part at `at` is higher.
fn after(version: Version, at: usize) -> Version {
    let mut next = NONE;
    next[..=at].copy_from_slice(&version[..=at]);
    next[at] += 1;
    next
}

pub(crate) fn version(text: &str) -> Option<Version> {
    let parts = parts(text)?;
    parts.try_into().ok()
}

/// The version to use among those there are: of the recommended line if the range has one there, else
/// the newest of a line with long-term support, else the newest.
pub(crate) fn choose<'a>(range: &Range, there: &'a [String]) -> Option<&'a String> {
    let fitting: Vec<(Version, &String)> = there
        .iter()
        .filter_map(|text| Some((version(text)?, text)))
        .filter(|(version, _)| range.contains(*version))
        .collect();
    let newest = |keep: &dyn Fn(&Version) -> bool| {
        fitting.iter().filter(|(version, _)| keep(version)).max().map(|(_, text)| *text)
    };
    newest(&|version| version[0] == RECOMMENDED)
        .or_else(|| newest(&|version| version[0] % 2 == 0))
        .or_else(|| newest(&|_| true))
}

/// `20.0.0 to 20.20.2, 22.0.0 to …`, for people.
pub(crate) fn lines(there: &[String]) -> String {
    let mut versions: Vec<Version> = there.iter().filter_map(|text| version(text)).collect();
    versions.sort_unstable();
    let shown = |version: &Version| version.map(|part| part.to_string()).join(".");
    versions
        .chunk_by(|a, b| a[0] == b[0])
        .filter_map(|line| {
            Some(format!(
                "{} to {} ({} versions)",
                shown(line.first()?),
                shown(line.last()?),
                line.len()
            ))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(range: &str, text: &str) -> bool {
        Range::parse(range).unwrap().contains(version(text).unwrap())
    }

    #[test]
    fn ranges_are_read_as_npm_reads_them() {
        for (range, inside, outside) in [
            ("20", "20.11.1", "21.0.0"),
            ("20.x", "20.0.0", "19.9.9"),
            ("20.11", "20.11.9", "20.12.0"),
            ("20.11.1", "20.11.1", "20.11.2"),
            ("v22.1.0", "22.1.0", "22.1.1"),
            ("^20.5.0", "20.19.0", "21.0.0"),
            ("^20.5.0", "20.5.0", "20.4.9"),
            ("~20.5.0", "20.5.9", "20.6.0"),
            ("~20", "20.9.0", "21.0.0"),
            (">=18", "26.0.0", "17.9.9"),
            (">= 18 <21", "20.0.0", "21.0.0"),
            (">18", "19.0.0", "18.5.0"),
            ("<=20", "20.99.0", "21.0.0"),
            ("<20", "19.9.9", "20.0.0"),
            ("18 - 20", "20.5.5", "21.0.0"),
            ("18 || 22", "22.3.0", "20.0.0"),
            ("18.x||>=22.x", "24.0.0", "21.0.0"),
            ("^0.10.1", "0.10.9", "0.11.0"),
            ("20.*", "20.1.1", "22.0.0"),
            ("lts/jod", "22.1.0", "24.0.0"),
            ("lts/*", "24.1.0", "22.1.0"),
            ("^18.17.0 || ^20.3.0 || >=21.0.0", "20.3.0", "20.2.0"),
            ("^20", "20.20.2", "22.0.0"),
        ] {
            assert!(holds(range, inside), "{range} has {inside}");
            assert!(!holds(range, outside), "{range} has not {outside}");
        }
        for open in ["*", "", "x", "node", "latest"] {
            assert!(holds(open, "26.10.0"), "{open}");
        }
    }

    #[test]
    fn what_is_no_range_is_none() {
        for bad in [
            "twenty",
            "20.a",
            "lts/unknown",
            "20 $(id)",
            "git+https://x",
            "^",
            "1.2.3.4",
            "99999999999",
        ] {
            assert_eq!(Range::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_recommended_line_comes_first_then_long_term_support_then_the_newest() {
        let there: Vec<String> = ["20.20.2", "22.23.3", "24.21.0", "24.1.0", "25.1.0", "26.10.0"]
            .map(str::to_owned)
            .to_vec();
        let chosen =
            |range: &str| choose(&Range::parse(range).unwrap(), &there).map(String::as_str);
        assert_eq!(chosen(">=18"), Some("24.21.0"));
        assert_eq!(chosen("22"), Some("22.23.3"));
        assert_eq!(chosen(">=25"), Some("26.10.0"));
        assert_eq!(chosen("25"), Some("25.1.0"));
        assert_eq!(chosen("18"), None);
        assert_eq!(chosen("24.1.0"), Some("24.1.0"));
    }

    #[test]
    fn the_list_for_people_is_short() {
        let there: Vec<String> = ["22.1.0", "20.0.0", "20.9.1"].map(str::to_owned).to_vec();
        assert_eq!(lines(&there), "20.0.0 to 20.9.1 (2 versions), 22.1.0 to 22.1.0 (1 versions)");
    }
}
