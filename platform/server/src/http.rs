//! The HTTP API: `/v1`, `/healthz`, and what others hang beside it (git).
//!
//! Takes requests, gives the types of `berth-api`. One file per resource; each handler begins with
//! `authorize`, does one thing, and answers with data or a problem document. What the API is, is
//! told by the same attributes that route it, at `/v1/openapi.json`. It decides nothing that
//! `berth_model::plan` decides, and starts nothing itself: that is behind [`Actions`].

mod actions;
mod addons;
mod alerts;
mod apps;
mod auth;
mod buildpacks;
mod builds;
mod call;
mod config;
mod cookie;
mod deployments;
mod document;
mod domains;
mod drains;
mod events;
mod extensions;
mod extract;
mod guard;
mod health;
mod idempotency;
mod keys;
mod logs;
mod measures;
mod moment;
mod page;
mod plan;
mod platform;
mod problem;
mod processes;
mod releases;
mod runs;
mod session;
mod sign_in;
mod ssh_key;
mod stacks;
mod stream;
mod teams;
mod tokens;
mod users;
mod volumes;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use berth_store::Store;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::attempts::Attempts;
use crate::config::ConsoleConfig;
use crate::measures::Measures;
use crate::passwords::SignIn;

pub use actions::{
    ActionError, Actions, Doing, Input, Live, LogEntry, LogFilter, LogStream, NewRun, Output,
    Session, StackPart, VolumeUse,
};
pub use addons::{AddonActions, NewAddonAsk};
pub use buildpacks::{BuildpackActions, Settling};
pub use extensions::{Deciding, ExtensionActions};

/// Most bytes of a request's body.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Streams and sessions that may be open at once.
const STREAMS_MAX: usize = 512;

/// What the handlers stand on.
pub struct Platform {
    /// What is stored.
    pub store: Store,
    /// What other rooms do.
    pub actions: Arc<dyn Actions>,
    /// Unix milliseconds.
    pub now_ms: fn() -> i64,
    /// Names that the API answers to besides the loopback ones, without port.
    pub hosts: Vec<String>,
    /// Where the router listens.
    pub http: SocketAddr,
    /// Where git over SSH listens.
    pub ssh: SocketAddr,
    /// Where refused calls are told.
    pub attempts: Attempts,
    /// How people sign in to the console.
    pub sign_in: SignIn,
    /// What is measured.
    pub measures: Measures,
    /// Whether a drain of anybody may reach addresses of private networks.
    pub private_drains: bool,
    streams: Arc<Semaphore>,
    failures: Semaphore,
    uploads: Semaphore,
    drawing: Semaphore,
    under_way: idempotency::UnderWay,
}

impl Platform {
    /// Puts the handles together, within a runtime.
    pub fn new(
        store: Store,
        actions: Arc<dyn Actions>,
        now_ms: fn() -> i64,
        hosts: Vec<String>,
        http: SocketAddr,
        ssh: SocketAddr,
    ) -> Self {
        let attempts = Attempts::start(store.clone(), now_ms);
        Self {
            store,
            actions,
            now_ms,
            hosts,
            http,
            ssh,
            attempts,
            sign_in: SignIn::new(ConsoleConfig::default()),
            measures: Measures::none(),
            private_drains: false,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            failures: Semaphore::new(auth::FAILURES_MAX),
            uploads: Semaphore::new(extensions::UPLOADS_MAX),
            drawing: Semaphore::new(extensions::DRAWN_MAX),
            under_way: idempotency::UnderWay::default(),
        }
    }
}

/// The API, with `beside` (git over HTTP) behind the same check of the Host header. Serve it with
/// `into_make_service_with_connect_info::<SocketAddr>()`, so that events tell where calls come from.
pub fn router(platform: Arc<Platform>, beside: Router) -> Router {
    let (api, document) = operations().split_for_parts();
    let api = api
        .merge(document::router(document))
        .fallback(elsewhere)
        .method_not_allowed_fallback(guard::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::clone(&platform));
    let guarded = axum::middleware::from_fn_with_state(platform, guard::check);
    beside.merge(api).layer(guarded)
}

/// What no operation takes: the console's, or nobody's.
async fn elsewhere(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    match crate::console::answer(&method, uri.path(), &headers) {
        Some(answer) => answer,
        None => guard::no_such_path(uri).await.into_response(),
    }
}

/// The document that `/v1/openapi.json` serves.
pub fn openapi() -> utoipa::openapi::OpenApi {
    operations().split_for_parts().1
}

/// Every operation; one that is not here does not exist.
fn operations() -> OpenApiRouter<Arc<Platform>> {
    OpenApiRouter::with_openapi(document::base())
        .routes(routes!(platform::health))
        .routes(routes!(platform::info))
        .routes(routes!(platform::me))
        .routes(routes!(platform::checks))
        .routes(routes!(platform::down))
        .routes(routes!(apps::list_apps, apps::create_app))
        .routes(routes!(apps::show_app, apps::change_app, apps::destroy_app))
        .routes(routes!(health::list_app_health))
        .routes(routes!(domains::list_domains, domains::add_domain))
        .routes(routes!(domains::remove_domain))
        .routes(routes!(volumes::list_volumes, volumes::create_volume))
        .routes(routes!(volumes::remove_volume))
        .routes(routes!(addons::list_addons, addons::create_addon))
        .routes(routes!(addons::show_addon, addons::remove_addon))
        .routes(routes!(addons::attach_addon))
        .routes(routes!(addons::detach_addon))
        .routes(routes!(addons::list_backups, addons::create_backup))
        .routes(routes!(addons::remove_backup))
        .routes(routes!(addons::download_backup))
        .routes(routes!(addons::restore_addon))
        .routes(routes!(processes::list_instances))
        .routes(routes!(processes::scale))
        .routes(routes!(processes::restart))
        .routes(routes!(processes::stop))
        .routes(routes!(processes::start))
        .routes(routes!(config::show_config, config::change_config))
        .routes(routes!(config::list_config_versions))
        .routes(routes!(plan::plan_change))
        .routes(routes!(builds::list_builds, builds::create_build))
        .routes(routes!(builds::show_build))
        .routes(routes!(builds::cancel_build))
        .routes(routes!(builds::build_log))
        .routes(routes!(releases::list_releases))
        .routes(routes!(releases::show_release))
        .routes(routes!(releases::diff_releases))
        .routes(routes!(releases::rollback))
        .routes(routes!(deployments::list_deployments))
        .routes(routes!(deployments::show_deployment))
        .routes(routes!(logs::app_log))
        .routes(routes!(runs::list_runs, runs::create_run))
        .routes(routes!(runs::stop_run))
        .routes(routes!(runs::attach_run))
        .routes(routes!(runs::exec_in_instance))
        .routes(routes!(keys::list_keys, keys::add_key))
        .routes(routes!(keys::remove_key))
        .routes(routes!(tokens::list_tokens, tokens::create_token))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(teams::list_teams, teams::create_team))
        .routes(routes!(teams::remove_team))
        .routes(routes!(users::list_users, users::create_user))
        .routes(routes!(users::show_user, users::change_user, users::remove_user))
        .routes(routes!(users::create_link))
        .routes(routes!(users::grant_role, users::revoke_role))
        .routes(routes!(users::list_sessions))
        .routes(routes!(users::end_session))
        .routes(routes!(sign_in::sign_in, sign_in::show_session, sign_in::sign_out))
        .routes(routes!(sign_in::choose_password))
        .routes(routes!(stacks::list_stacks))
        .routes(routes!(stacks::update_stack))
        .routes(routes!(buildpacks::list_buildpacks, buildpacks::add_buildpack))
        .routes(routes!(buildpacks::remove_buildpack))
        .routes(routes!(buildpacks::show_buildpack_order, buildpacks::set_buildpack_order))
        .routes(routes!(drains::list_drains, drains::create_drain))
        .routes(routes!(drains::show_drain, drains::remove_drain))
        .routes(routes!(extensions::list_extensions, extensions::install_extension))
        .routes(routes!(extensions::show_extension, extensions::remove_extension))
        .routes(routes!(extensions::extension_component))
        .routes(routes!(extensions::configure_extension))
        .routes(routes!(extensions::set_extension_secret, extensions::remove_extension_secret))
        .routes(routes!(extensions::grant_extension))
        .routes(routes!(extensions::set_extension_apps))
        .routes(routes!(extensions::disable_extension))
        .routes(routes!(extensions::disable_extensions))
        .routes(routes!(extensions::resume_extension))
        .routes(routes!(extensions::extension_log))
        .routes(routes!(extensions::list_deliveries))
        .routes(routes!(extensions::replay_events))
        .routes(routes!(extensions::list_extension_pages))
        .routes(routes!(extensions::show_extension_page))
        .routes(routes!(alerts::list_alerts, alerts::create_alert))
        .routes(routes!(alerts::remove_alert))
        .routes(routes!(measures::app_measures))
        .routes(routes!(measures::host_measures))
        .routes(routes!(extensions::metrics))
        .routes(routes!(events::list_events))
}
