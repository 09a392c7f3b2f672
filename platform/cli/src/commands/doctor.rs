//! `berth doctor`.

use berth_api::{Check, Info, Me};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let mut checks = Vec::new();
    let info: Info = client.get("/v1/info").await?;
    checks.push(Check {
        name: "platform".to_owned(),
        ok: true,
        detail: format!("Berth {} at {}", info.version, client.server()),
    });
    let me: Me = client.get("/v1/me").await?;
    checks.push(Check {
        name: "token".to_owned(),
        ok: true,
        detail: format!("{}, {} of the team {}", me.name, me.role, me.team),
    });
    checks.extend(client.get::<Vec<Check>>("/v1/checks").await?);
    let well = checks.iter().all(|check| check.ok);
    output.value(&checks, |checks| {
        checks
            .iter()
            .map(|c| {
                format!("{} {:<10} {}\n", if c.ok { "ok  " } else { "FAIL" }, c.name, c.detail)
            })
            .collect()
    })?;
    if well { Ok(()) } else { Err(Failure::failed("the platform is not well")) }
}
