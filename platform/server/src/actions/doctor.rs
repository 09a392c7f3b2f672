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
    vec![agent, router, disk(&actions.pipeline.disk)]
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
