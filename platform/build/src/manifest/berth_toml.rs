//! `berth.toml`: strict, so that a misspelt key never silently does nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use berth_model::ProcessName;
use berth_model::manifest::WasmSettings;
use berth_model::size::ByteSize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{ManifestError, line_of, unknown_key};

const FILE: &str = "berth.toml";
/// What a Wasm app can be built from.
const LANGUAGES: [&str; 3] = ["javascript", "python", "rust"];
/// Entries of a list in `[wasm]`.
const LIST_MAX: usize = 100;
/// Bytes that a Wasm app may ask for.
const MEMORY: std::ops::RangeInclusive<u64> = 1 << 20..=4 << 30;
const TOP: [&str; 6] = ["build", "processes", "python", "release", "static", "wasm"];

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BerthToml {
    /// `[build] buildpacks`: these, in this order, instead of detection by groups.
    pub buildpacks: Option<Vec<String>>,
    /// `[build] env`: variables of build tools; the app's configuration wins.
    pub build_env: BTreeMap<String, String>,
    /// `[processes.NAME]`.
    pub processes: BTreeMap<ProcessName, ProcessSettings>,
    /// `[release] command`.
    pub release: Option<Vec<String>>,
    /// `[wasm]`, but for the component's path, which the buildpack reads.
    pub wasm: WasmSettings,
}

/// One `[processes.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessSettings {
    /// A line for `bash -c`, or an argument vector.
    pub command: Option<Vec<String>>,
    /// Directory below the app's top directory.
    pub directory: Option<String>,
    /// Path of the readiness check.
    pub check: Option<String>,
}

type Value<'i> = Spanned<DeValue<'i>>;
type Table<'i> = DeTable<'i>;

/// The text, for lines of errors.
struct File<'t>(&'t str);

impl BerthToml {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// TOML that is not valid, unknown keys, values of another type or out of range.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let file = File(text);
        let table = DeTable::parse(text).map_err(|error| {
            file.error(error.span().unwrap_or(0..0), error.message().replace('\n', ", "))
        })?;
        let mut settings = Self::default();
        for (key, value) in table.get_ref() {
            let section = file.table(key, value);
            match key.get_ref().as_ref() {
                "build" => file.build(section?, &mut settings)?,
                "processes" => file.processes(section?, &mut settings)?,
                "release" => {
                    for (key, value) in file.keys(section?, &["command"])? {
                        settings.release = Some(file.command(key, value)?);
                    }
                }
                // What follows is read by the buildpack; here it is only checked.
                "static" => {
                    for (key, value) in file.keys(section?, &["root", "spa"])? {
                        match key.get_ref().as_ref() {
                            "spa" => file.boolean(key, value)?,
                            _ => drop(file.string(key, value)?),
                        }
                    }
                }
                "wasm" => file.wasm(section?, &mut settings.wasm)?,
                "python" => file.strings_only(section?, &["app"])?,
                other => return Err(file.error(key.span(), unknown_key(other, &TOP))),
            }
        }
        Ok(settings)
    }
}

impl<'i> File<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> ManifestError {
        ManifestError {
            file: FILE,
            line: Some(line_of(self.0, span.start)),
            message: message.into(),
        }
    }

    fn wrong(&self, key: &Spanned<DeString<'_>>, expected: &str) -> ManifestError {
        self.error(key.span(), format!("'{}' must be {expected}.", key.get_ref()))
    }

    fn build(&self, section: &Table<'i>, settings: &mut BerthToml) -> Result<(), ManifestError> {
        for (key, value) in self.keys(section, &["buildpacks", "env"])? {
            if key.get_ref() == "buildpacks" {
                settings.buildpacks = Some(self.list(key, value)?);
                continue;
            }
            for (name, value) in self.table(key, value)? {
                if !is_variable(name.get_ref()) {
                    return Err(self.error(name.span(), format!("'{}' is not the name of a variable. Use letters, digits and underscores.", name.get_ref())));
                }
                settings.build_env.insert(name.get_ref().to_string(), self.string(name, value)?);
            }
        }
        Ok(())
    }

    fn processes(
        &self,
        section: &Table<'i>,
        settings: &mut BerthToml,
    ) -> Result<(), ManifestError> {
        for (key, value) in section {
            let name: ProcessName =
                key.get_ref().parse().map_err(|error: berth_model::NameError| {
                    self.error(key.span(), error.to_string())
                })?;
            if name.as_str() == "release" {
                return Err(self.error(
                    key.span(),
                    "the release phase is not a process. Write [release] command = \"…\".",
                ));
            }
            let mut process = ProcessSettings::default();
            for (key, value) in
                self.keys(self.table(key, value)?, &["check", "command", "directory"])?
            {
                match key.get_ref().as_ref() {
                    "command" => process.command = Some(self.command(key, value)?),
                    "check" => {
                        let path = self.string(key, value)?;
                        if !is_url_path(&path) {
                            return Err(self.wrong(key, "the path of a URL, such as \"/healthz\""));
                        }
                        process.check = Some(path);
                    }
                    _ => {
                        let path = self.string(key, value)?;
                        if path.is_empty()
                            || path.starts_with('/')
                            || path.split('/').any(|part| part == "..")
                        {
                            return Err(self.wrong(
                                key,
                                "a directory below the app's top directory, such as \"server\"",
                            ));
                        }
                        process.directory = Some(path);
                    }
                }
            }
            settings.processes.insert(name, process);
        }
        Ok(())
    }

    fn wasm(&self, section: &Table<'i>, wasm: &mut WasmSettings) -> Result<(), ManifestError> {
        const KEYS: [&str; 8] =
            ["build", "component", "cpu_ms", "http", "main", "memory", "requests", "secrets"];
        let there = |name: &str| section.iter().any(|(key, _)| key.get_ref() == name);
        for (key, value) in self.keys(section, &KEYS)? {
            match key.get_ref().as_ref() {
                "build" => {
                    let language = self.string(key, value)?;
                    if !LANGUAGES.contains(&language.as_str()) {
                        return Err(self.wrong(key, "\"javascript\", \"python\" or \"rust\""));
                    }
                    if there("component") {
                        return Err(self.error(key.span(), "'build' makes the component, so there is none to name with 'component'. Keep one of the two."));
                    }
                }
                "main" => {
                    let path = self.string(key, value)?;
                    let plain = path.strip_prefix("./").unwrap_or(&path);
                    if !plain.split('/').all(is_plain) {
                        return Err(self.wrong(key, "the path of a file in the commit, such as \"src/app.py\", of letters, digits, '.', '_' and '-'"));
                    }
                    if !there("build") {
                        return Err(self.error(key.span(), "'main' is read where the app is built from source. Write [wasm] build = \"javascript\" or \"python\" too."));
                    }
                }
                "http" => wasm.http = self.parsed(key, value)?,
                "secrets" => wasm.secrets = self.parsed(key, value)?,
                "memory" => {
                    let size = self.string(key, value)?.parse::<ByteSize>();
                    let size = size.map_err(|error| self.error(key.span(), format!("{error}.")))?;
                    if !MEMORY.contains(&size.0) {
                        return Err(self.wrong(key, "from 1MiB to 4GiB"));
                    }
                    wasm.memory = Some(size);
                }
                "cpu_ms" => wasm.cpu_ms = Some(self.number(key, value, 1..=600_000)?),
                "requests" => wasm.requests = Some(self.number(key, value, 1..=10_000)?),
                _ => drop(self.string(key, value)?),
            }
        }
        Ok(())
    }

    /// A list of texts, each read as something.
    fn parsed<T>(
        &self,
        key: &Spanned<DeString<'i>>,
        value: &Value<'i>,
    ) -> Result<Vec<T>, ManifestError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let items = self.list(key, value)?;
        if items.len() > LIST_MAX {
            return Err(self.wrong(key, "a list of at most 100"));
        }
        let read = |item: String| {
            item.parse().map_err(|error: T::Err| {
                self.error(key.span(), format!("'{}': {error}.", key.get_ref()))
            })
        };
        items.into_iter().map(read).collect()
    }

    fn number(
        &self,
        key: &Spanned<DeString<'i>>,
        value: &Value<'i>,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<u32, ManifestError> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = range.into_inner();
            self.wrong(key, &format!("a whole number from {least} to {most}"))
        })
    }

    fn strings_only(&self, section: &Table<'i>, known: &[&str]) -> Result<(), ManifestError> {
        for (key, value) in self.keys(section, known)? {
            self.string(key, value)?;
        }
        Ok(())
    }

    /// The entries of a table, none of them unknown.
    fn keys<'a>(
        &self,
        table: &'a Table<'i>,
        known: &[&str],
    ) -> Result<Vec<(&'a Spanned<DeString<'i>>, &'a Value<'i>)>, ManifestError> {
        table
            .iter()
            .map(|(key, value)| match known.contains(&key.get_ref().as_ref()) {
                true => Ok((key, value)),
                false => Err(self.error(key.span(), unknown_key(key.get_ref(), known))),
            })
            .collect()
    }

    fn table<'a>(
        &self,
        key: &Spanned<DeString<'i>>,
        value: &'a Value<'i>,
    ) -> Result<&'a Table<'i>, ManifestError> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => {
                let known = TOP.contains(&key.get_ref().as_ref());
                let message = format!("'{}' must be a table, [{}].", key.get_ref(), key.get_ref());
                Err(self.error(
                    key.span(),
                    if known { message } else { unknown_key(key.get_ref(), &TOP) },
                ))
            }
        }
    }

    fn string(
        &self,
        key: &Spanned<DeString<'i>>,
        value: &Value<'i>,
    ) -> Result<String, ManifestError> {
        match value.get_ref() {
            DeValue::String(text) if !text.contains('\0') => Ok(text.to_string()),
            _ => Err(self.wrong(key, "a text in quotes")),
        }
    }

    fn boolean(&self, key: &Spanned<DeString<'i>>, value: &Value<'i>) -> Result<(), ManifestError> {
        match value.get_ref() {
            DeValue::Boolean(_) => Ok(()),
            _ => Err(self.wrong(key, "true or false")),
        }
    }

    fn list(
        &self,
        key: &Spanned<DeString<'i>>,
        value: &Value<'i>,
    ) -> Result<Vec<String>, ManifestError> {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong(key, "a list of texts, such as [\"a\", \"b\"]"));
        };
        if items.is_empty() {
            return Err(self.wrong(key, "a list that is not empty"));
        }
        items.iter().map(|item| self.string(key, item)).collect()
    }

    /// A line becomes `bash -c LINE`, as in a Procfile; a list is taken as it is.
    fn command(
        &self,
        key: &Spanned<DeString<'i>>,
        value: &Value<'i>,
    ) -> Result<Vec<String>, ManifestError> {
        let words = match value.get_ref() {
            DeValue::Array(_) => self.list(key, value)?,
            DeValue::String(line) if line.trim().is_empty() => {
                return Err(self.wrong(key, "a command that is not empty"));
            }
            _ => vec!["bash".to_owned(), "-c".to_owned(), self.string(key, value)?],
        };
        if words.iter().map(String::len).sum::<usize>() > 64 << 10 {
            return Err(self.wrong(key, "at most 64 KiB long"));
        }
        Ok(words)
    }
}

/// A part of a path that can stand in a command or a program as it is.
fn is_plain(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

pub(super) fn is_url_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 1024
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

#[cfg(test)]
mod tests;
