//! What travels between the platform and its clients: the types of the HTTP API `/v1`.
//!
//! Shared by server, CLI and tests, so that the three cannot disagree. Plain data: no behaviour
//! but conversions. Times are RFC 3339 in UTC, names are the stable keys in paths, lists come in
//! pages with an opaque `page_token`. Requests refuse unknown fields; answers may grow fields, and
//! states may grow values. Every refusal is a [`Problem`].
//!
//! Operations (`A` is `/v1/apps/{app}`; a `Page` takes `limit` and `page_token`); the whole
//! description is served at `/v1/openapi.json`:
//!
//! | operation | takes -> gives |
//! |---|---|
//! | GET `/healthz`, without a token | -> `ok` |
//! | GET `/v1/info`, GET `/v1/me`, GET `/v1/checks` | -> `Info`, `Me`, `Vec<Check>` |
//! | GET, POST `/v1/apps`; GET, PATCH, DELETE `A` | `CreateApp`, `ChangeApp` -> `Page<AppView>`, `AppView` |
//! | GET, POST `A/domains`; DELETE `A/domains/{domain}` | `AddDomain` -> `Page<DomainView>`, `DomainView` |
//! | GET, POST `A/volumes`; DELETE `A/volumes/{volume}` | `CreateVolume` -> `Page<VolumeView>`, `VolumeView` when what runs has it |
//! | GET, POST `/v1/addons`; GET, DELETE `/v1/addons/{addon}` (`D`) | `CreateAddon` -> `Page<AddonView>`, `AddonView` when its image is made |
//! | POST `D/attachments`; DELETE `D/attachments/{app}` | `AttachAddon` -> `AttachmentChanged` |
//! | GET, POST `D/backups`; DELETE `D/backups/{backup}`; GET `D/backups/{backup}/content`; POST `D/restore` | `RestoreAddon` -> `Page<BackupView>`, `BackupView` when it is kept, its bytes |
//! | GET `A/instances` (`?all=true` with those that are over) | -> `Page<InstanceView>` |
//! | PUT `A/scale`; POST `A/restart`, `A/stop`, `A/start` | `Scale` -> `AppView`, when it is brought about or failed |
//! | GET, PATCH `A/config`; GET `A/config/versions` | `ChangeConfig` -> `ConfigView`, `ConfigChanged`, `Page<ConfigVersionView>` |
//! | POST `A/plan` | `PlanRequest` -> `PlanView` |
//! | GET, POST `A/builds`; GET `A/builds/{build}`; POST `A/builds/{build}/cancel` | -> `Page<BuildView>`, `BuildView` (202) |
//! | GET `A/builds/{build}/log` | -> `Page<BuildLogLine>`, or events of `BuildLogLine` and at last `end` with the `BuildView`, or text |
//! | GET `A/releases`; GET `A/releases/{number}`; GET `A/releases/{number}/diff/{other}` | -> `Page<ReleaseView>`, `ReleaseView`, `ReleaseDiff` |
//! | POST `A/rollback` | `Rollback` -> `DeploymentView` (202) |
//! | GET `A/deployments`; GET `A/deployments/{deployment}` | -> `Page<DeploymentView>`, `DeploymentView`, or events of it; `?wait=true` answers at the switch or the end, or after two seconds |
//! | GET `A/log` (`?lines=&process=`) | -> `Page<LogLine>`, or events of `LogLine` |
//! | GET, POST `A/runs`; DELETE `A/runs/{run}`; GET `A/runs/{run}/attach` (WebSocket) | `CreateRun` -> `Page<InstanceView>`, `InstanceView` |
//! | GET `A/instances/{instance}/exec` (WebSocket; `?command=` once per argument, `rows`, `columns`) | |
//! | GET, POST `/v1/keys`; DELETE `/v1/keys/{key}` | `AddKey` -> `Page<KeyView>`, `KeyView` |
//! | GET, POST `/v1/tokens`; DELETE `/v1/tokens/{token}` | `CreateToken` -> `Page<TokenView>`, `TokenCreated` |
//! | POST, GET, DELETE `/v1/session`; POST `/v1/session/password` | `SignIn`, `ChoosePassword` -> `SessionView` and a cookie |
//! | GET, POST `/v1/users`; GET, PATCH, DELETE `/v1/users/{user}` (`U`) | `CreateUser`, `ChangeUser` -> `Page<UserView>`, `UserCreated`, `UserView` |
//! | POST `U/link`; PUT, DELETE `U/teams/{team}` | `GrantRole` -> `SignInLink`, `UserView` |
//! | GET `U/sessions`; DELETE `U/sessions/{session}` | -> `Page<UserSessionView>` |
//! | GET, POST `/v1/teams`; DELETE `/v1/teams/{team}` | `CreateTeam` -> `Page<TeamView>`, `TeamView` |
//! | GET `/v1/stacks`; POST `/v1/stacks/{stack}/update` | -> `Page<StackView>`, `Vec<StackView>` when it is made |
//! | GET, POST `/v1/buildpacks` (a component; `?replace=`); DELETE `/v1/buildpacks/{buildpack}` | -> `Page<BuildpackView>`, `BuildpackView` |
//! | GET, PUT `/v1/buildpack-order` | `SetBuildpackOrder` -> `BuildpackOrder` |
//! | GET (`?app=`), POST `/v1/drains`; GET, DELETE `/v1/drains/{drain}` | `CreateDrain` -> `Page<DrainView>`, `DrainView` |
//! | GET, POST `/v1/extensions` (a component; `?review=`, `accept`, `granted`, `apps`, `config`) | -> `Page<ExtensionView>`, `ExtensionInstalled` or `ExtensionReview`; `NeedsApproval` (409) |
//! | GET, DELETE `/v1/extensions/{extension}` (`E`) | -> `ExtensionDetails` |
//! | PUT `E/config`, `E/apps`; POST `E/grant` | the configuration, `ExtensionApps`, `GrantExtension` -> `ExtensionView` |
//! | PUT, DELETE `E/secrets/{secret}` | `SetExtensionSecret` |
//! | POST `E/disable`, `E/resume`; POST `/v1/extensions/disable` | -> `ExtensionView`; the names |
//! | GET `E/log` (`?lines=`); GET `E/deliveries`; POST `E/replay` | `ReplayEvents` -> `Page<ExtensionLogLine>` or events of it, `Page<DeliveryView>`, `Replayed` |
//! | GET `E/pages`; GET `E/pages/{page}` (`?app=`) | -> `Page<ExtensionPage>`, `ShownPage` |
//! | GET (`?app=`), POST `/v1/alerts`; DELETE `/v1/alerts/{alert}` | `CreateAlert` -> `Page<AlertView>`, `AlertView` |
//! | GET `A/measures`, GET `/v1/host/measures` (`?names=&from=&to=&step=`) | -> `MeasuresView` |
//! | GET `/metrics` | -> the text form of Prometheus |
//! | GET `/v1/events` (`?app=&actor=&kind=&since=&order=newest…`) | -> `Page<EventView>`, or events of `EventView` |
//! | POST `/v1/down` (`?grace_ms=`) | -> 202 |
//!
//! Server-sent events are given to who sends `Accept: text/event-stream` (where a query has `follow`,
//! `?follow=true` does the same) and resume after `Last-Event-ID`. `If-Match: "GENERATION"` binds a
//! change of an app to the generation that it was decided on (412 when it has another one).
//! `Idempotency-Key` on builds and rollbacks makes them safe to send twice.

pub mod access;
pub mod addon;
pub mod alert;
pub mod app;
pub mod build;
pub mod buildpack;
pub mod config;
pub mod drain;
pub mod extension;
pub mod extension_page;
pub mod health;
pub mod measure;
pub mod problem;
pub mod process;
pub mod release;
pub mod session;
pub mod stack;
pub mod time;
pub mod user;
pub mod volume;

pub use access::*;
pub use addon::*;
pub use alert::*;
pub use app::*;
pub use build::*;
pub use buildpack::*;
pub use config::*;
pub use drain::*;
pub use extension::*;
pub use extension_page::*;
pub use health::*;
pub use measure::*;
pub use problem::*;
pub use process::*;
pub use release::*;
pub use session::*;
pub use stack::*;
pub use time::Timestamp;
pub use user::*;
pub use volume::*;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Entries of a page where the request does not say.
pub const PAGE_DEFAULT: u32 = 50;
/// Most entries of a page.
pub const PAGE_MAX: u32 = 200;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Gives the next page as `?page_token=`; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// What the platform is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// Version of the server.
    pub version: String,
    /// Domain below which apps get their default host name.
    pub domain: String,
    /// Port of the router.
    pub http_port: u16,
    /// Address of git over SSH.
    pub ssh: String,
}

/// Whether a part of the platform is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was looked at: `agent`, `router`, `disk`.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found, and what to do where it is not well.
    pub detail: String,
}

/// One change that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Position in the stream.
    pub seq: i64,
    /// What happened: `app.created`.
    pub kind: String,
    /// Version of the shape of `before` and `after`.
    pub schema: u32,
    /// What happened, in one line for people.
    pub what: String,
    /// Id of what changed.
    pub subject: String,
    /// What the app that it is about was called then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Who did it.
    pub actor: String,
    /// Id of who did it, where somebody called; two may have one name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Where the call came from.
    pub source_ip: Option<String>,
    /// When.
    pub at: Timestamp,
    /// State before, secrets masked.
    #[schema(value_type = Object)]
    pub before: serde_json::Value,
    /// State after, secrets masked.
    #[schema(value_type = Object)]
    pub after: serde_json::Value,
}
