//! Versions of Python: pins and specifiers. Pure.

/// The version that a `.python-version` names: `3.11` or `3.11.2`.
///
/// # Errors
/// What is wrong and what to do.
pub(crate) fn pinned(text: &str) -> Result<String, String> {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .collect();
    let [line] = lines.as_slice() else {
        return Err(
            "the file .python-version must have one line with a version, such as 3.11.".to_owned()
        );
    };
    let version = line.trim_start_matches("python-").trim_start_matches("cpython-");
    let parts: Vec<&str> = version.split('.').collect();
    let numeric = parts.iter().all(|part| {
        !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit())
    });
    if (1..=3).contains(&parts.len()) && numeric {
        Ok(version.to_owned())
    } else {
        let shown: String = line.chars().take(40).flat_map(char::escape_default).collect();
        Err(format!("'{shown}' in .python-version is not a version such as 3.11 or 3.11.2."))
    }
}

/// Whether a whole version begins with the wanted parts.
pub(crate) fn fits(version: &str, wanted: &str) -> bool {
    let (version, wanted) = (numbers(version), numbers(wanted));
    version.len() >= wanted.len() && version[..wanted.len()] == wanted[..]
}

/// Whether a version satisfies specifiers like `>=3.9,<4` (PEP 440, release numbers only). A
/// specifier that is not understood is left to the installer.
pub(crate) fn satisfies(version: &str, specifiers: &str) -> bool {
    specifiers.split(',').map(str::trim).filter(|one| !one.is_empty()).all(|one| {
        let at = one.find(|c: char| c.is_ascii_digit()).unwrap_or(one.len());
        let (operator, wanted) = (one[..at].trim(), one[at..].trim());
        let (prefix, wild) = match wanted.strip_suffix(".*") {
            Some(prefix) => (prefix, true),
            None => (wanted, false),
        };
        let parts = numbers(prefix);
        if parts.is_empty() {
            return true;
        }
        let order = compare(&numbers(version), &parts);
        match operator {
            ">=" => order.is_ge(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            "<" => order.is_lt(),
            "==" | "===" if wild => fits(version, prefix),
            "==" | "===" => order.is_eq(),
            "!=" if wild => !fits(version, prefix),
            "!=" => order.is_ne(),
            "~=" => {
                order.is_ge()
                    && parts.len() > 1
                    && numbers(version).get(..parts.len() - 1) == Some(&parts[..parts.len() - 1])
            }
            // Poetry's caret and tilde.
            "^" => order.is_ge() && numbers(version).first() == parts.first(),
            "~" => order.is_ge() && numbers(version).get(..2) == parts.get(..2),
            _ => true,
        }
    })
}

fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// Compares with missing parts as zeros.
fn compare(a: &[u64], b: &[u64]) -> std::cmp::Ordering {
    let at = |parts: &[u64], index: usize| parts.get(index).copied().unwrap_or(0);
    (0..a.len().max(b.len()))
        .map(|index| at(a, index).cmp(&at(b, index)))
        .find(|order| order.is_ne())
        .unwrap_or(std::cmp::Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_one_line_with_a_version() {
        for (text, version) in [
            ("3.11\n", "3.11"),
            ("# ours\n3.11.2 # exact\r\n", "3.11.2"),
            ("python-3.11.2", "3.11.2"),
        ] {
            assert_eq!(pinned(text).unwrap(), version);
        }
        for bad in ["", "3.11\n3.12\n", "pypy3.10", "3.11.2.1", "3.x", "3..1", "; rm -rf"] {
            assert!(pinned(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pin_fits_by_its_parts_and_not_by_its_letters() {
        assert!(fits("3.11.2", "3.11") && fits("3.11.2", "3.11.2") && fits("3.11.2", "3"));
        assert!(!fits("3.11.2", "3.1") && !fits("3.11.2", "3.11.9") && !fits("3.1.0", "3.11"));
    }

    #[test]
    fn specifiers_are_those_of_pep_440() {
        for good in [
            ">=3.9",
            ">=3.9,<4",
            "~=3.9",
            "~=3.11.0",
            "==3.11.*",
            "!=3.10.*",
            "^3.8",
            "",
            ">3.11",
            "<=3.11.2",
            "==3.11.2",
            ">= 3.8 , < 4.0",
        ] {
            assert!(satisfies("3.11.2", good), "{good}");
        }
        for bad in [
            ">=3.12", "<3.11", "~=3.12", "~=3.10.1", "==3.10.*", "!=3.11.*", "^4", ">=3.11.3",
            "==3.11",
        ] {
            assert!(!satisfies("3.11.2", bad), "{bad}");
        }
    }
}
