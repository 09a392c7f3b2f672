//! What the handlers ask of whoever makes add-ons.

use std::fs::File;

use berth_model::{App, AppName, Deployment, TeamId};
use berth_store::{Backup, By};
use serde_json::Value;

use crate::http::actions::Doing;

/// An add-on that somebody asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAddonAsk {
    /// The team that will own it.
    pub team: TeamId,
    /// The extension's id, or its name alone.
    pub kind: String,
    /// Its name.
    pub name: AppName,
    /// What was chosen, an object.
    pub options: Value,
}

/// What is done to add-ons. The caller was authorised before any of these is called; once called,
/// each is carried to its end also when the client goes away.
pub trait AddonActions: Send + Sync {
    /// Makes an add-on and queues its deployment.
    fn create(&self, ask: NewAddonAsk, by: By) -> Doing<'_, (App, Deployment)>;

    /// Has the add-on write a backup, and keeps it.
    fn backup(&self, addon: App, by: By) -> Doing<'_, Backup>;

    /// Has the add-on read a backup in place of what it holds.
    fn restore(&self, addon: App, from: Backup, by: By) -> Doing<'_, ()>;

    /// What a backup holds.
    fn open(&self, backup: Backup) -> Doing<'_, File>;
}
