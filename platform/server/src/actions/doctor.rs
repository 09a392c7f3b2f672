//! Looks at the parts of the platform.

use berth_api::Check;
use berth_container::{PROTOCOL, Request};

use super::RoomActions;
use crate::disk::Disk;

pub(super) async fn checks(actions: &RoomActions) -> Vec<Check> {
    let agent = match actions.agent.call(&Request::Hello { protocol: PROTOCOL }, &[]).await {
        Ok(_) => well("agent", "it answers"),
        Err(error) => ill("agent", &error.to_string()),
    };
    let router = if actions.pipeline.router.is_connected() {
        well("router", "it answers")
    } else {
        ill(
            "router",
            "it does not answer; it goes on with its last routes, and is started again when it ends",
        )
    };
    let release = rustix::system::uname();
    vec![agent, router, disk(&actions.pipeline.disk), kernel(&release.release().to_string_lossy())]
}

/// Containers see their layers under shifted user ids, which overlayfs takes since Linux 5.19.
fn kernel(release: &str) -> Check {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next().and_then(Result::ok), numbers.next().and_then(Result::ok));
    match version {
        (Some(major), Some(minor)) if (major, minor) >= (5, 19) => {
            well("kernel", &format!("Linux {release}"))
        }
        _ => ill(
            "kernel",
            &format!("Linux {release}: containers need 5.19 or newer; start a newer kernel"),
        ),
    }
}

fn well(name: &str, detail: &str) -> Check {
    Check { name: name.to_owned(), ok: true, detail: detail.to_owned() }
}

fn ill(name: &str, detail: &str) -> Check {
    Check { name: name.to_owned(), ok: false, detail: detail.to_owned() }
}

fn disk(disk: &Disk) -> Check {
    let folder = disk.folder().display();
    match disk.free() {
        Ok(free) => {
            let text = format!("{} GiB ({} %) free in {folder}", free.bytes >> 30, free.percent);
            if free.is_enough() {
                well("disk", &text)
            } else {
                ill("disk", &format!("{text}; nothing is built before some space is free"))
            }
        }
        Err(error) => ill("disk", &format!("cannot look at {folder}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_before_5_19_is_named_with_what_to_do() {
        for (release, ok) in [
            ("5.19.0", true),
            ("6.1.0-18-amd64", true),
            ("10.0", true),
            ("5.18.19", false),
            ("5.10.0-28-cloud-amd64", false),
            ("unknown", false),
        ] {
            let check = kernel(release);
            assert_eq!(check.ok, ok, "{release}");
            assert!(check.detail.contains(release));
        }
    }
}
