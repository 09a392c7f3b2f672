//! A file of rings.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::directory::{Directory, Entry};
use crate::form::{ENTRY_BYTES, Form, HEAD_BYTES, Merge, Resolution};
use crate::record;

/// Where the head says up to which coarse tick records were made.
const DONE_AT: u64 = HEAD_BYTES - 16;

/// A file, and whether another one had to give way to it.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: RingFile,
    /// Where a file lies now that could not be used, and why it could not.
    pub set_aside: Option<(PathBuf, String)>,
}

/// A file of rings. One process writes it.
#[derive(Debug)]
pub struct RingFile {
    file: File,
    form: Form,
    directory: Directory,
    /// Coarse records are there up to this coarse tick, exclusively.
    done: u64,
}

impl RingFile {
    /// Opens the file, or makes it. One that is torn or of another form is renamed to `*.old`, in
    /// place of what was renamed so before.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, form: Form) -> io::Result<Opened> {
        let mut set_aside = None;
        if path.symlink_metadata().is_ok() {
            match read(path, &form) {
                Ok((file, directory, done)) => {
                    let mut file = Self { file, form, directory, done };
                    file.look_for_last()?;
                    return Ok(Opened { file, set_aside: None });
                }
                Err(error) => {
                    let old = path.with_extension("old");
                    match fs::remove_file(&old) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => fs::rename(path, &old)?,
                    }
                    set_aside = Some((old, error.to_string()));
                }
            }
        }
        let new = path.with_extension("new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all_at(&form.head(), 0)?;
        file.set_len(form.bytes_max())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        let places = vec![None; form.places as usize];
        let file = Self { file, form, directory: Directory::new(places), done: 0 };
        Ok(Opened { file, set_aside })
    }

    /// Its form.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Every thing that has a place: its name, and the time of its last record, Unix milliseconds.
    pub fn names(&self) -> impl Iterator<Item = (&str, i64)> {
        let period_ms = i64::from(self.form.fine.period_ms);
        let at = move |tick: u64| i64::try_from(tick).unwrap_or(i64::MAX).saturating_mul(period_ms);
        self.directory.all().map(move |(_, entry)| (entry.name.as_str(), at(entry.last)))
    }

    /// Writes a record of a thing for the period that `at_ms` lies in. False when there is no
    /// place for one more thing.
    ///
    /// # Errors
    /// What the file system says; a record that has not as many numbers as the form.
    pub fn write(&mut self, name: &str, at_ms: i64, values: &[Option<f64>]) -> io::Result<bool> {
        if values.len() != self.form.merge.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "another number of values"));
        }
        let tick = self.form.fine.tick(at_ms);
        let (place, seed) = match self.directory.find(name) {
            Some((place, entry)) => (place, entry.seed()),
            None => {
                let Some((place, entry)) = self.directory.take(name, tick) else {
                    return Ok(false);
                };
                self.forget_rings(place);
                if let Err(error) = self.write_entry(place, &entry) {
                    self.directory.free(place);
                    return Err(error);
                }
                (place, entry.seed())
            }
        };
        self.put(place, Resolution::Fine, tick, &record::encode(seed, tick, values))?;
        self.directory.written(place, tick);
        Ok(true)
    }

    /// Makes the coarse records of all periods that are over by `now_ms`, forgets what is older
    /// than what is kept, and brings everything to the disk when there was something to do.
    ///
    /// # Errors
    /// What the file system says.
    pub fn settle(&mut self, now_ms: i64) -> io::Result<()> {
        let ratio = self.form.ratio();
        let now = self.form.coarse.tick(now_ms);
        let reach = u64::from(self.form.fine.records) / ratio;
        let first = self.done.max(now.saturating_sub(reach));
        if first >= now {
            return Ok(());
        }
        let entries: Vec<(usize, Entry)> =
            self.directory.all().map(|(place, entry)| (place, entry.clone())).collect();
        let kept = ratio * u64::from(self.form.coarse.records);
        for (place, entry) in entries {
            if entry.last + kept < now * ratio {
                self.directory.free(place);
                self.file.write_all_at(&[0; ENTRY_BYTES as usize], self.entry_at(place))?;
                self.forget_rings(place);
                continue;
            }
            for tick in first.max(entry.first / ratio)..now.min(entry.last / ratio + 1) {
                let fine = self.ring(place, &entry, Resolution::Fine, tick * ratio, ratio)?;
                if let Some(values) = merge(&self.form.merge, &fine) {
                    let bytes = record::encode(entry.seed(), tick, &values);
                    self.put(place, Resolution::Coarse, tick, &bytes)?;
                }
            }
            self.write_entry(place, &entry)?;
        }
        self.file.sync_data()?;
        self.done = now;
        self.file.write_all_at(&now.to_le_bytes(), DONE_AT)
    }

    /// Records of a thing from the period of `from_ms` on, so many periods long; nothing where none
    /// was written or it is not kept any more.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(
        &self,
        name: &str,
        resolution: Resolution,
        from_ms: i64,
        periods: u32,
    ) -> io::Result<Vec<Option<Vec<Option<f64>>>>> {
        let first = self.form.span(resolution).tick(from_ms);
        match self.directory.find(name) {
            Some((place, entry)) => self.ring(place, entry, resolution, first, u64::from(periods)),
            None => Ok(vec![None; periods as usize]),
        }
    }

    /// Up to which moment there are coarse records, Unix milliseconds.
    pub fn settled_ms(&self) -> i64 {
        let done = i64::try_from(self.done).unwrap_or(i64::MAX);
        done.saturating_mul(i64::from(self.form.coarse.period_ms))
    }

    /// An entry says when its thing was written last only as of the last time that coarse records
    /// were made.
    fn look_for_last(&mut self) -> io::Result<()> {
        let count = 2 * self.form.ratio() + 1;
        let entries: Vec<(usize, Entry)> =
            self.directory.all().map(|(place, entry)| (place, entry.clone())).collect();
        for (place, entry) in entries {
            let records = self.ring(place, &entry, Resolution::Fine, entry.last, count)?;
            if let Some(last) = records.iter().rposition(Option::is_some) {
                self.directory.written(place, entry.last + last as u64);
            }
        }
        Ok(())
    }

    fn ring(
        &self,
        place: usize,
        entry: &Entry,
        resolution: Resolution,
        first: u64,
        count: u64,
    ) -> io::Result<Vec<Option<Vec<Option<f64>>>>> {
        let records = u64::from(self.form.span(resolution).records);
        let size = self.form.record_bytes();
        let begin = self.form.ring_at(place, resolution);
        let mut found = Vec::with_capacity(count as usize);
        let mut tick = first;
        while tick < first + count {
            // Up to the end of the ring in one read.
            let part = (first + count - tick).min(records - tick % records);
            let mut bytes = vec![0; part as usize * size];
            self.file.read_exact_at(&mut bytes, begin + tick % records * size as u64)?;
            let read = bytes.chunks_exact(size).zip(tick..);
            found.extend(read.map(|(bytes, tick)| record::decode(entry.seed(), tick, bytes)));
            tick += part;
        }
        Ok(found)
    }

    fn put(&self, place: usize, resolution: Resolution, tick: u64, bytes: &[u8]) -> io::Result<()> {
        let records = u64::from(self.form.span(resolution).records);
        let at = tick % records * bytes.len() as u64;
        self.file.write_all_at(bytes, self.form.ring_at(place, resolution) + at)
    }

    fn write_entry(&self, place: usize, entry: &Entry) -> io::Result<()> {
        self.file.write_all_at(&entry.encode(), self.entry_at(place))
    }

    fn entry_at(&self, place: usize) -> u64 {
        HEAD_BYTES + place as u64 * ENTRY_BYTES
    }

    /// Gives the space back. Where the file system cannot, what is there stays unreadable all the
    /// same, because records are bound to their thing.
    fn forget_rings(&self, place: usize) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let begin = self.form.ring_at(place, Resolution::Fine);
        let _ = fallocate(&self.file, flags, begin, self.form.place_bytes());
    }
}

fn read(path: &Path, form: &Form) -> io::Result<(File, Directory, u64)> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() != form.bytes_max() {
        return Err(wrong("its size is another one"));
    }
    let mut head = form.head();
    let wanted = head.clone();
    file.read_exact_at(&mut head, 0)?;
    if head != wanted {
        return Err(wrong("it is of another form"));
    }
    let mut done = [0; 8];
    file.read_exact_at(&mut done, DONE_AT)?;
    let mut entries = vec![0; form.places as usize * ENTRY_BYTES as usize];
    file.read_exact_at(&mut entries, HEAD_BYTES)?;
    let places = entries.chunks_exact(ENTRY_BYTES as usize).map(Entry::decode).collect();
    Ok((file, Directory::new(places), u64::from_le_bytes(done)))
}

/// One record of several; nothing when there is none.
fn merge(how: &[Merge], records: &[Option<Vec<Option<f64>>>]) -> Option<Vec<Option<f64>>> {
    let records: Vec<&Vec<Option<f64>>> = records.iter().flatten().collect();
    if records.is_empty() {
        return None;
    }
    let column = |index: usize| records.iter().filter_map(move |record| record[index]);
    let merged = how.iter().enumerate().map(|(index, how)| how.of(column(index)));
    Some(merged.collect())
}

impl Merge {
    /// Of what was measured; nothing of nothing.
    pub fn of(self, values: impl Iterator<Item = f64>) -> Option<f64> {
        let (mut count, mut sum, mut most) = (0_u32, 0.0, f64::NEG_INFINITY);
        for value in values {
            count += 1;
            sum += value;
            most = most.max(value);
        }
        (count > 0).then(|| match self {
            Self::Mean => sum / f64::from(count),
            Self::Max => most,
            Self::Sum => sum,
        })
    }
}
