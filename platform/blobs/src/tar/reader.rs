//! The checked reader, for archives of any origin.

use std::io::{self, Read};

use super::header::{self, BLOCK, Block};
use super::{TarError, check_path, shown};

/// Most bytes of one PAX or long-name record: several paths of PATH_MAX and some comments.
const EXTENSION_BYTES_MAX: u64 = 64 * 1024;

/// What a [`Reader`] takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Entries, directories included.
    pub entries_max: u64,
    /// Sum of the lengths of all files.
    pub bytes_max: u64,
    /// Length of one file.
    pub file_bytes_max: u64,
    /// Length of a path and of a link's target.
    pub path_bytes_max: usize,
    /// Parts of a path.
    pub depth_max: usize,
}

impl Caps {
    /// For the archived tree of a push: 250,000 entries, 4 GiB, 64 deep.
    pub const SOURCE: Self = Self {
        entries_max: 250_000,
        bytes_max: 4 << 30,
        file_bytes_max: 1 << 30,
        path_bytes_max: 1024,
        depth_max: 64,
    };
    /// For a layer of an image: 1,000,000 entries, 16 GiB, 128 deep.
    pub const LAYER: Self = Self {
        entries_max: 1_000_000,
        bytes_max: 16 << 30,
        file_bytes_max: 8 << 30,
        path_bytes_max: 4095,
        depth_max: 128,
    };
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file; read its content from the [`Entry`].
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link. The target is not checked: it may lead anywhere, never follow it.
    Symlink {
        /// The target.
        target: Vec<u8>,
    },
    /// Another name of a file that came before.
    HardLink {
        /// The path of that file, checked like any path.
        target: Vec<u8>,
    },
}

/// One entry of an archive. Reading from it gives the content of a file.
pub struct Entry<'a, R> {
    /// Checked path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (0 to 0o7777).
    pub mode: u32,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
    /// Modification time, whole Unix seconds.
    pub mtime_s: u64,
    reader: &'a mut Reader<R>,
}

impl<R: Read> Read for Entry<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.content(buffer)
    }
}

impl<R> Entry<'_, R> {
    /// Whether the owner may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

/// Reads an archive from the beginning to the end, once.
pub struct Reader<R> {
    input: R,
    caps: Caps,
    entries: u64,
    bytes: u64,
    /// Of the current entry's content.
    left: u64,
    padding: u64,
    ended: bool,
}

/// What extension records say about the next entry.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
}

impl<R: Read> Reader<R> {
    /// Reads nothing yet. `input` is read in blocks of 512 bytes: buffer it.
    pub fn new(input: R, caps: Caps) -> Self {
        Self { input, caps, entries: 0, bytes: 0, left: 0, padding: 0, ended: false }
    }

    /// The next entry, after what was not read of the one before is skipped; `None` at the end.
    ///
    /// # Errors
    /// `Path`, `Kind`, `Limit`, `Damaged`, `Io`. After an error the reader is unusable.
    #[expect(clippy::should_implement_trait, reason = "an entry borrows the reader")]
    pub fn next(&mut self) -> Result<Option<Entry<'_, R>>, TarError> {
        self.skip_content()?;
        let mut extended = Extended::default();
        loop {
            let Some(block) = self.block()? else { return Ok(None) };
            header::check(&block)?;
            let size = header::number(&block[124..136])?;
            match block[156] {
                b'x' => self.pax(size, &mut extended)?,
                b'g' => self.global(size)?,
                b'L' => extended.path = Some(self.long_name(size)?),
                b'K' => extended.target = Some(self.long_name(size)?),
                _ if is_root(&block, extended.path.as_deref()) => {
                    self.count(b"./", 0)?;
                    extended = Extended::default();
                }
                _ => return self.entry(&block, extended).map(Some),
            }
        }
    }

    /// After [`Self::next`] gave `None`: what follows the end mark is read to the end of the
    /// input, so that a digest over the input is complete.
    ///
    /// # Errors
    /// `Io`; `Damaged` when anything but zero bytes follows.
    pub fn finish(mut self) -> Result<R, TarError> {
        let mut buffer = [0; 8 * BLOCK];
        loop {
            match self.input.read(&mut buffer) {
                Ok(0) => return Ok(self.input),
                Ok(count) if buffer[..count].iter().all(|byte| *byte == 0) => {}
                Ok(_) => return Err(TarError::Damaged("something follows its end")),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn entry(&mut self, block: &Block, extended: Extended) -> Result<Entry<'_, R>, TarError> {
        let name = extended.path.unwrap_or_else(|| name(block));
        let path = self.check(&name)?;
        let target = extended.target.unwrap_or_else(|| header::text(&block[157..257]).to_vec());
        let size = match extended.size {
            Some(size) => size,
            None => header::number(&block[124..136])?,
        };
        let kind = match block[156] {
            b'5' => Kind::Directory,
            // Before POSIX, a directory was a file whose name ends with a slash.
            0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' | 0 => Kind::File { size },
            b'1' => Kind::HardLink { target: self.check(&target)? },
            b'2' => Kind::Symlink { target: self.check_target(&path, target)? },
            other => return Err(TarError::Kind { path: shown(&path), kind: kind_name(other) }),
        };
        let content = if matches!(kind, Kind::File { .. }) { size } else { 0 };
        self.count(&path, content)?;
        self.left = content;
        self.padding = content.next_multiple_of(BLOCK as u64) - content;
        let (uid, gid) = (
            extended.uid.map_or_else(|| header::number(&block[108..116]), Ok)?,
            extended.gid.map_or_else(|| header::number(&block[116..124]), Ok)?,
        );
        const OWNER: TarError = TarError::Damaged("an owner's number is too large");
        Ok(Entry {
            path,
            kind,
            mode: (header::number(&block[100..108])? & 0o7777) as u32,
            uid: uid.try_into().map_err(|_| OWNER)?,
            gid: gid.try_into().map_err(|_| OWNER)?,
            mtime_s: header::number(&block[136..148])?,
            reader: self,
        })
    }

    /// A path without `.` parts, doubled and final slashes, as `tar c .` writes them.
    fn check(&self, name: &[u8]) -> Result<Vec<u8>, TarError> {
        if name.starts_with(b"/") {
            return Err(TarError::Path { path: shown(name), why: "it is absolute" });
        }
        let parts: Vec<&[u8]> =
            name.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
        let path = parts.join(&b'/');
        check_path(&path, self.caps.path_bytes_max)?;
        if parts.len() > self.caps.depth_max {
            let max = self.caps.depth_max as u64;
            return Err(TarError::Limit {
                what: "directories in one another",
                max,
                path: shown(&path),
            });
        }
        Ok(path)
    }

    fn check_target(&self, path: &[u8], target: Vec<u8>) -> Result<Vec<u8>, TarError> {
        if target.is_empty() || target.len() > self.caps.path_bytes_max || target.contains(&0) {
            let why = "the target of the symbolic link is empty, too long or has a zero byte";
            return Err(TarError::Path { path: shown(path), why });
        }
        Ok(target)
    }

    fn count(&mut self, path: &[u8], size: u64) -> Result<(), TarError> {
        let limit = |what, max| Err(TarError::Limit { what, max, path: shown(path) });
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.entries > self.caps.entries_max {
            return limit("entries", self.caps.entries_max);
        }
        if size > self.caps.file_bytes_max {
            return limit("bytes in one file", self.caps.file_bytes_max);
        }
        if self.bytes > self.caps.bytes_max {
            return limit("bytes in all files", self.caps.bytes_max);
        }
        Ok(())
    }

    fn pax(&mut self, size: u64, extended: &mut Extended) -> Result<(), TarError> {
        let records = self.extension(size)?;
        for record in PaxRecords(&records) {
            let (key, value) = record?;
            match key {
                b"path" => extended.path = Some(value.to_vec()),
                b"linkpath" => extended.target = Some(value.to_vec()),
                b"size" => extended.size = Some(decimal(value)?),
                b"uid" => extended.uid = Some(decimal(value)?),
                b"gid" => extended.gid = Some(decimal(value)?),
                _ if key.starts_with(b"GNU.sparse.") => {
                    let path = extended.path.as_deref().unwrap_or_default();
                    return Err(TarError::Kind { path: shown(path), kind: "sparse file" });
                }
                // Times, names and attributes mean nothing to us.
                _ => {}
            }
        }
        Ok(())
    }

    /// A global header: `git archive` writes the commit there. One that would change every
    /// entry is refused rather than understood.
    fn global(&mut self, size: u64) -> Result<(), TarError> {
        let records = self.extension(size)?;
        for record in PaxRecords(&records) {
            if matches!(record?.0, b"path" | b"linkpath" | b"size" | b"uid" | b"gid") {
                return Err(TarError::Damaged("a global header sets what entries must say"));
            }
        }
        Ok(())
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension(size)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > EXTENSION_BYTES_MAX {
            let (what, path) = ("bytes in an extension record", String::new());
            return Err(TarError::Limit { what, max: EXTENSION_BYTES_MAX, path });
        }
        self.count(b"an extension record", 0)?;
        let mut bytes = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
        self.input.read_exact(&mut bytes).map_err(too_early)?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    fn content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.left.min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends too early"));
        }
        self.left -= count as u64;
        Ok(count)
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let rest = self.left + self.padding;
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink())?;
        if skipped < rest {
            return Err(TarError::Damaged("it ends within a file"));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// The next header; `None` at the end mark (a block of zeros) or the end of the input.
    fn block(&mut self) -> Result<Option<Block>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 && self.entries > 0 => break,
                Ok(0) => return Err(TarError::Damaged("it ends too early")),
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.ended = block.iter().all(|byte| *byte == 0);
        Ok((!self.ended).then_some(block))
    }
}

/// The name of a header with ustar's prefix, where it has one.
fn name(block: &Block) -> Vec<u8> {
    let name = header::text(&block[..100]);
    let prefix = header::text(&block[345..500]);
    if block[257..263] == *b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// Whether a header is the directory `./` that `tar c .` begins with. It says nothing we need.
fn is_root(block: &Block, long: Option<&[u8]>) -> bool {
    let name = long.map_or_else(|| name(block), <[u8]>::to_vec);
    block[156] == b'5' && matches!(name.as_slice(), b"." | b"./")
}

fn kind_name(flag: u8) -> &'static str {
    match flag {
        b'3' | b'4' => "device",
        b'6' => "FIFO",
        b'S' => "sparse file",
        _ => "entry of an unknown kind",
    }
}

fn too_early(error: io::Error) -> TarError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        TarError::Damaged("it ends too early")
    } else {
        error.into()
    }
}

const PAX_WRONG: TarError = TarError::Damaged("a PAX record is wrong");

fn decimal(value: &[u8]) -> Result<u64, TarError> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(PAX_WRONG)
}

/// `<length> <key>=<value>\n` one after another.
struct PaxRecords<'a>(&'a [u8]);

impl<'a> Iterator for PaxRecords<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), TarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        Some(Self::split(bytes).ok_or(PAX_WRONG).map(|(record, rest)| {
            self.0 = rest;
            record
        }))
    }
}

impl<'a> PaxRecords<'a> {
    #[expect(clippy::type_complexity, reason = "a record and the rest")]
    fn split(bytes: &'a [u8]) -> Option<((&'a [u8], &'a [u8]), &'a [u8])> {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        Some(((&record[..equals], &record[equals + 1..]), &bytes[length..]))
    }
}
