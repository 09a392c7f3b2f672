//! `berth logs`.

use berth_api::{LogLine, Page};

use super::app_path;
use crate::arguments::Logs;
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::Output;

pub(crate) async fn run(command: Logs, client: &Client, output: &Output) -> Result<(), Failure> {
    let process = command.process.map(|p| format!("&process={}", segment(&p))).unwrap_or_default();
    let path = format!("{}/log?lines={}{process}", app_path(&command.app, client)?, command.lines);
    let human = |line: &LogLine| format!("{} app[{}]: {}", line.at, line.source, line.line);
    if !command.follow {
        let page: Page<LogLine> = client.get(&path).await?;
        for line in &page.items {
            output.item(line, human)?;
        }
        return Ok(());
    }
    client
        .follow(&format!("{path}&follow=true"), |_, data| {
            if let Ok(line) = serde_json::from_str::<LogLine>(data) {
                output.item(&line, human)?;
            }
            Ok(true)
        })
        .await
}
