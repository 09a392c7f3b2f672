//! Looks at the parts of the platform.

use berth_api::Check;
use berth_container::{PROTOCOL, Request};

use super::RoomActions;

/// Less free space than this is a warning, percent of the disk.
const FREE_PERCENT_MIN: u64 = 10;

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
    vec![agent, router, disk(&actions.data)]
}

fn well(name: &str, detail: &str) -> Check {
    Check { name: name.to_owned(), ok: true, detail: detail.to_owned() }
}

fn ill(name: &str, detail: &str) -> Check {
    Check { name: name.to_owned(), ok: false, detail: detail.to_owned() }
}

fn disk(folder: &std::path::Path) -> Check {
    match rustix::fs::statvfs(folder) {
        Ok(found) => {
            let percent = (found.f_bavail * 100).checked_div(found.f_blocks).unwrap_or(0);
            let free = (found.f_bavail * found.f_frsize) >> 30;
            let text = format!("{free} GiB ({percent} %) free in {}", folder.display());
            if percent >= FREE_PERCENT_MIN {
                well("disk", &text)
            } else {
                ill("disk", &format!("{text}; free some space"))
            }
        }
        Err(error) => ill("disk", &format!("cannot look at {}: {error}", folder.display())),
    }
}
