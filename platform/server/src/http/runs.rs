//! One-off commands, and commands in running instances.

use axum::Json;
use axum::extract::RawQuery;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::Response;
use berth_api::{CreateRun, InstanceView, Page, Size};
use berth_model::principal::Verb;
use berth_model::{App, InstanceRecord, InstanceRole};

use super::actions::{NewRun, Session};
use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query};
use super::page::PageQuery;
use super::problem::ApiError;
use super::processes::{instance_of, views};
use super::session;
use super::stream::Place;

/// Most arguments of a command, and most bytes of all of them.
const ARGUMENTS_MAX: usize = 256;
const COMMAND_BYTES_MAX: usize = 64 * 1024;
/// Longest time of a one-off command: a day.
const TIMEOUT_S_MAX: u32 = 86_400;

/// The app's one-off commands, newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/runs", tag = "runs", params(("app" = String, Path), PageQuery),
    responses((status = 200, body = Page<InstanceView>), Problems))]
pub(super) async fn list_runs(
    call: Call,
    Path(app): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<InstanceView>>, ApiError> {
    let app = call.app(&app, Verb::Read).await?;
    let wanted = query.wanted()?;
    let before = wanted.after_as()?;
    let rows = call.store().instances(app.id, true, before, wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |row| row.id.to_string());
    Ok(Json(views(&call, &app, page).await?))
}

/// Run a command in a new container of the app's current release.
#[utoipa::path(post, path = "/v1/apps/{app}/runs", tag = "runs", params(("app" = String, Path)),
    request_body = CreateRun, responses((status = 201, body = InstanceView), Problems))]
pub(super) async fn create_run(
    call: Call,
    Path(app): Path<String>,
    Body(body): Body<CreateRun>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<InstanceView>), ApiError> {
    let app = call.app(&app, Verb::Run).await?;
    check_command(&body.command)?;
    if body.detach && body.terminal.is_some() {
        return Err(ApiError::invalid("/terminal", "a detached command has no terminal"));
    }
    if body.timeout_s.is_some_and(|timeout| !(1..=TIMEOUT_S_MAX).contains(&timeout)) {
        return Err(ApiError::invalid("/timeout_s", "use 1 to 86400 seconds"));
    }
    if let Some(size) = body.terminal {
        check_size(size, "/terminal")?;
    }
    let run = NewRun {
        command: body.command,
        detach: body.detach,
        timeout_s: body.timeout_s,
        terminal: body.terminal,
    };
    let row = call.actions().start_run(app.clone(), run, call.caller.clone()).await?;
    let location = format!("/v1/apps/{}/runs/{}", app.name, row.id);
    let page = Page { items: vec![row], next_page_token: None };
    let view = views(&call, &app, page).await?.items.into_iter().next();
    let view = view.ok_or_else(|| ApiError::unavailable("the command was lost"))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view)))
}

/// End a one-off command.
#[utoipa::path(delete, path = "/v1/apps/{app}/runs/{run}", tag = "runs",
    params(("app" = String, Path), ("run" = String, Path)),
    responses((status = 204, description = "It is over."), Problems))]
pub(super) async fn stop_run(
    call: Call,
    Path((app, run)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let app = call.app(&app, Verb::Run).await?;
    let row = run_of(&call, &app, &run).await?;
    if !row.state.is_terminal() {
        call.actions().stop_run(app.id, row.id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The session of a one-off command that was just created: a WebSocket.
#[utoipa::path(get, path = "/v1/apps/{app}/runs/{run}/attach", tag = "runs",
    params(("app" = String, Path), ("run" = String, Path)),
    responses((status = 101, description = "A session."), Problems))]
pub(super) async fn attach_run(
    call: Call,
    Path((app, run)): Path<(String, String)>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let app = call.app(&app, Verb::Run).await?;
    let row = run_of(&call, &app, &run).await?;
    let upgrade = upgraded(upgrade)?;
    let place = call.place()?;
    let session = call.actions().attach(app.id, row.id).await?;
    Ok(accept(upgrade, session, place))
}

/// Run a command in a running instance: a WebSocket. `command` is given once per argument; with
/// `rows` and `columns` it gets a terminal.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{instance}/exec", tag = "runs",
    params(
        ("app" = String, Path), ("instance" = String, Path),
        ("command" = Vec<String>, Query), ("rows" = Option<u16>, Query), ("columns" = Option<u16>, Query),
    ),
    responses((status = 101, description = "A session."), Problems))]
pub(super) async fn exec_in_instance(
    call: Call,
    Path((app, instance)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let app = call.app(&app, Verb::Run).await?;
    let row = instance_of(&call, &app, &instance).await?;
    if row.state.is_terminal() {
        return Err(ApiError::conflict(format!("{} does not run any more", row.label())));
    }
    let (command, terminal) = exec_query(query.as_deref().unwrap_or_default())?;
    let upgrade = upgraded(upgrade)?;
    let place = call.place()?;
    let session = call.actions().exec(app, row, command, terminal).await?;
    Ok(accept(upgrade, session, place))
}

fn exec_query(query: &str) -> Result<(Vec<String>, Option<Size>), ApiError> {
    let (mut command, mut rows, mut columns) = (Vec::new(), None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number =
            || value.parse().map_err(|_| ApiError::invalid(name.clone(), "use 1 to 65535"));
        match &*name {
            "command" => command.push(value.into_owned()),
            "rows" => rows = Some(number()?),
            "columns" => columns = Some(number()?),
            _ => return Err(ApiError::bad_request(format!("unknown parameter {name:?}"))),
        }
    }
    check_command(&command)?;
    let terminal = match (rows, columns) {
        (Some(rows), Some(columns)) => Some(Size { rows, columns }),
        (None, None) => None,
        _ => return Err(ApiError::invalid("rows", "give rows and columns, or neither")),
    };
    if let Some(size) = terminal {
        check_size(size, "rows")?;
    }
    Ok((command, terminal))
}

fn check_command(command: &[String]) -> Result<(), ApiError> {
    let refuse = |detail: &str| Err(ApiError::invalid("/command", detail));
    if command.first().is_none_or(String::is_empty) {
        return refuse("give a command");
    }
    if command.len() > ARGUMENTS_MAX {
        return refuse("a command may have 256 arguments");
    }
    if command.iter().map(|word| word.len() + 1).sum::<usize>() > COMMAND_BYTES_MAX {
        return refuse("a command may have 64 KiB");
    }
    if command.iter().any(|word| word.contains('\0')) {
        return refuse("a command cannot hold NUL");
    }
    Ok(())
}

fn check_size(size: Size, pointer: &str) -> Result<(), ApiError> {
    if size.rows == 0 || size.columns == 0 {
        return Err(ApiError::invalid(pointer, "a terminal has at least one row and one column"));
    }
    Ok(())
}

async fn run_of(call: &Call, app: &App, id: &str) -> Result<InstanceRecord, ApiError> {
    let row = instance_of(call, app, id).await?;
    if matches!(row.role, InstanceRole::Run | InstanceRole::Detached) {
        Ok(row)
    } else {
        Err(ApiError::not_found("run", id))
    }
}

fn upgraded(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, ApiError> {
    upgrade.map_err(|rejection| {
        ApiError::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade-required",
            "Not a WebSocket",
            format!("this operation is a WebSocket: {}", rejection.body_text()),
        )
    })
}

fn accept(upgrade: WebSocketUpgrade, session: Session, place: Place) -> Response {
    upgrade
        .max_message_size(session::MESSAGE_BYTES_MAX)
        .max_frame_size(session::MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| session::carry(socket, session, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_comes_once_per_argument() {
        let (command, terminal) =
            exec_query("command=sh&command=-c&command=echo%20%26&rows=24&columns=80").unwrap();
        assert_eq!(command, ["sh", "-c", "echo &"]);
        assert_eq!(terminal, Some(Size { rows: 24, columns: 80 }));
    }

    #[test]
    fn odd_commands_and_sizes_are_refused() {
        for query in [
            "",
            "command=",
            "command=a&rows=1",
            "command=a&rows=0&columns=1",
            "command=a&rows=x&columns=1",
            "command=a%00",
            "command=a&x=1",
        ] {
            assert!(exec_query(query).is_err(), "{query}");
        }
    }
}
