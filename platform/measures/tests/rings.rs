//! A file of rings over months, restarts, and after damage.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use berth_measures::{Form, Merge, Resolution, RingFile, Span};
use tempfile::TempDir;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 1_440 * MINUTE;
/// A time at the beginning of a coarse period.
const BEGIN: i64 = 1_800_000_000 * SECOND;

fn form(places: u32) -> Form {
    Form {
        merge: vec![Merge::Mean, Merge::Max, Merge::Sum],
        places,
        fine: Span { period_ms: 10_000, records: 8_640 },
        coarse: Span { period_ms: 300_000, records: 8_640 },
    }
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("rings")
    }

    fn open(&self, form: Form) -> RingFile {
        let opened = RingFile::open(&self.path(), form).unwrap();
        assert_eq!(opened.set_aside, None);
        opened.file
    }
}

fn three(value: f64) -> [Option<f64>; 3] {
    [Some(value), Some(value), Some(value)]
}

#[test]
fn thirty_one_days_take_the_space_that_was_said_before_and_no_more() {
    let place = Place::new();
    let mut file = place.open(form(2));
    let most = form(2).bytes_max();
    let mut at = BEGIN;
    while at < BEGIN + 31 * DAY {
        for name in ["a", "b"] {
            assert!(file.write(name, at, &three(1.0)).unwrap());
        }
        if at % (5 * MINUTE) == 0 {
            file.settle(at).unwrap();
        }
        at += 10 * SECOND;
    }
    file.settle(at).unwrap();
    let meta = fs::metadata(place.path()).unwrap();
    assert_eq!(meta.len(), most);
    assert!(meta.blocks() * 512 <= most + 65_536, "{} blocks", meta.blocks());
    let day = file.read("a", Resolution::Fine, at - DAY, 8_640).unwrap();
    assert!(day.iter().all(Option::is_some), "a day in full");
    let month = file.read("b", Resolution::Coarse, at - 30 * DAY, 8_640).unwrap();
    assert!(month.iter().all(Option::is_some), "a month in full");
    let before = file.read("a", Resolution::Fine, at - 2 * DAY, 8_640).unwrap();
    assert!(before.iter().all(Option::is_none), "nothing of the day before is taken for it");
    let before = file.read("a", Resolution::Coarse, at - 31 * DAY, 288).unwrap();
    assert!(before.iter().all(Option::is_none), "and nothing of the month before");
}

#[test]
fn a_place_that_nobody_writes_takes_no_space() {
    let place = Place::new();
    let mut file = place.open(form(10_000));
    file.write("a", BEGIN, &three(1.0)).unwrap();
    let meta = fs::metadata(place.path()).unwrap();
    assert!(meta.len() > 1 << 30, "{}", meta.len());
    assert!(meta.blocks() * 512 < 1 << 16, "{} blocks", meta.blocks());
}

#[test]
fn a_coarse_record_is_made_of_the_fine_ones_also_after_a_restart() {
    let place = Place::new();
    let mut file = place.open(form(2));
    for step in 0..30 {
        file.write("a", BEGIN + step * 10 * SECOND, &[Some(step as f64), Some(5.0), None]).unwrap();
    }
    file.write("a", BEGIN + 5 * MINUTE, &[None, Some(1.0), Some(2.0)]).unwrap();
    // Killed: nothing was settled.
    drop(file);
    let mut file = place.open(form(2));
    file.settle(BEGIN + 11 * MINUTE).unwrap();
    let read = file.read("a", Resolution::Coarse, BEGIN, 3).unwrap();
    assert_eq!(read[0], Some(vec![Some(14.5), Some(5.0), None]));
    assert_eq!(read[1], Some(vec![None, Some(1.0), Some(2.0)]));
    assert_eq!(read[2], None, "that time is not over");
    assert_eq!(file.settled_ms(), BEGIN + 10 * MINUTE);
    let fine = file.read("a", Resolution::Fine, BEGIN + 290 * SECOND, 2).unwrap();
    assert_eq!(fine[1], Some(vec![None, Some(1.0), Some(2.0)]), "what was written is there");
}

#[test]
fn what_ended_longest_ago_gives_its_place_away_and_nothing_of_it_is_left() {
    let place = Place::new();
    let mut file = place.open(form(2));
    file.write("old", BEGIN, &three(1.0)).unwrap();
    file.write("alive", BEGIN + MINUTE, &three(2.0)).unwrap();
    assert!(file.write("new", BEGIN + MINUTE, &three(3.0)).unwrap());
    assert!(!file.write("more", BEGIN + MINUTE, &three(4.0)).unwrap(), "both are alive");
    assert!(!file.write(&"n".repeat(500), BEGIN + DAY, &three(4.0)).unwrap());
    assert_eq!(file.read("old", Resolution::Fine, BEGIN, 1).unwrap(), [None]);
    assert_eq!(file.read("new", Resolution::Fine, BEGIN, 1).unwrap(), [None], "not its own");
    let mut names: Vec<_> = file.names().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    assert_eq!(names, ["alive", "new"]);
    drop(file);
    let file = place.open(form(2));
    assert_eq!(file.names().count(), 2);
}

#[test]
fn what_ended_before_all_that_is_kept_is_forgotten() {
    let place = Place::new();
    let mut file = place.open(form(2));
    file.write("a", BEGIN, &three(1.0)).unwrap();
    file.settle(BEGIN + 29 * DAY).unwrap();
    assert_eq!(file.names().count(), 1);
    file.settle(BEGIN + 31 * DAY).unwrap();
    assert_eq!(file.names().count(), 0);
    drop(file);
    assert_eq!(place.open(form(2)).names().count(), 0);
}

#[test]
fn a_file_that_is_torn_or_of_another_form_is_set_aside() {
    let place = Place::new();
    let mut other = form(2);
    other.fine.period_ms = 5_000;
    let torn: [fn(&PathBuf); 4] = [
        |path| fs::write(path, "something else").unwrap(),
        |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(5_000).unwrap(),
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[..64].fill(0);
            fs::write(path, bytes).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ];
    for tear in torn {
        drop(place.open(form(2)));
        tear(&place.path());
        let opened = RingFile::open(&place.path(), form(2)).unwrap();
        let (old, why) = opened.set_aside.unwrap();
        assert!(old.exists() && !why.is_empty());
        assert_eq!(opened.file.names().count(), 0);
        if old.is_dir() {
            fs::remove_dir(old).unwrap();
        }
    }
    assert!(RingFile::open(&place.path(), other).unwrap().set_aside.is_some());
}

#[test]
fn one_torn_entry_or_record_costs_itself_alone() {
    let place = Place::new();
    let mut file = place.open(form(2));
    for step in 0..2 {
        file.write("a", BEGIN + step * 10 * SECOND, &three(1.0)).unwrap();
        file.write("b", BEGIN + step * 10 * SECOND, &three(2.0)).unwrap();
    }
    drop(file);
    let mut bytes = fs::read(place.path()).unwrap();
    // The name of the first thing, and one number in the records of the second.
    bytes[4096 + 22] ^= 1;
    let two = 2.0_f32.to_le_bytes();
    let found = bytes.windows(4).position(|window| window == two).unwrap();
    bytes[found] ^= 1;
    fs::write(place.path(), bytes).unwrap();
    let file = place.open(form(2));
    let names: Vec<_> = file.names().map(|(name, _)| name).collect();
    assert_eq!(names, ["b"]);
    let read = file.read("b", Resolution::Fine, BEGIN, 2).unwrap();
    assert_eq!(read.iter().filter(|record| record.is_some()).count(), 1);
}
