//! What a platform has on the machine: what a deploy or a crash could leave behind.

use std::process::Command;

use crate::Platform;

/// Loop devices, mounts, control groups, processes, links of its network, folders of containers and
/// disks, sorted.
///
/// # Panics
/// When a tool that lists them cannot be started.
pub fn of(platform: &Platform) -> Vec<String> {
    let id = std::fs::read_to_string(platform.data.join("id")).expect("its id").trim().to_owned();
    let data = platform.data.display().to_string();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect("starts");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let own = |lines: Vec<String>| {
        lines.into_iter().filter(|line| line.contains(&id) || line.contains(&data))
    };
    let mut all: Vec<String> =
        own(run("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"])).collect();
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the mounts");
    all.extend(own(mounts.lines().map(str::to_owned).collect()));
    all.extend(own(run("find", &["/sys/fs/cgroup", "-type", "d"])));
    all.extend(
        own(run("ps", &["-e", "-o", "args="]))
            .filter(|line| !line.starts_with("git") && !line.starts_with("sqlite3")),
    );
    let links = run("nsenter", &[&format!("--net=/run/berth/{id}/net"), "ip", "-brief", "link"]);
    all.extend(
        links.iter().map(|line| line.split(['@', ' ']).next().unwrap_or_default().to_owned()),
    );
    all.extend(run("ls", &[&format!("/run/berth/{id}/i"), &format!("{data}/disks")]));
    all.sort();
    all
}

/// The same with the numbers of instances and links taken out: how many there are of what.
///
/// # Panics
/// As [`of`].
pub fn kinds(platform: &Platform) -> Vec<String> {
    let mut all: Vec<String> = of(platform).iter().map(|line| kind(line)).collect();
    all.sort();
    all
}

/// Files that only a write under way has.
///
/// # Panics
/// When `find` cannot be started.
pub fn unfinished(platform: &Platform) -> Vec<String> {
    let output = Command::new("find")
        .arg(&platform.data)
        .args(["(", "-path", "*/tmp/*", "-o", "-name", "*.new", "-o", "-name", "*.tmp", "-o"])
        .args(["-path", "*/git/*.lock", "-o", "-name", "tmp_*", "-o"])
        .args(["-name", "incoming-*", "-o", "-name", "*.keep", ")"])
        .args(["-not", "-path", "*/trees/*"])
        .output()
        .expect("find starts");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Words that are ids or numbers become `#`.
fn kind(line: &str) -> String {
    line.split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let counted = bare.len() >= 20 || bare.bytes().any(|byte| byte.is_ascii_digit());
            if counted { word.replacen(bare, "#", 1) } else { word.to_owned() }
        })
        .collect()
}

/// Process ids whose command line holds all of the words.
///
/// # Panics
/// When `/proc` cannot be read.
pub fn processes(words: &[&str]) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if words.iter().all(|word| line.contains(word)) {
            found.push(pid);
        }
    }
    found
}
