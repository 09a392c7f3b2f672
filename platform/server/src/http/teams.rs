//! Teams.

use axum::Json;
use axum::http::StatusCode;
use berth_api::{CreateTeam, Page, TeamView};
use berth_model::principal::Verb;
use berth_store::Team;

use super::call::Call;
use super::document::Problems;
use super::extract::{Json as Body, Path, Query, field};
use super::page::{self, PageQuery};
use super::problem::ApiError;

/// The caller's team; an administrator's list has every team, by name.
#[utoipa::path(get, path = "/v1/teams", tag = "access", params(PageQuery), responses((status = 200, body = Page<TeamView>), Problems))]
pub(super) async fn list_teams(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<TeamView>>, ApiError> {
    let visible = call.listed(Verb::Read)?;
    let wanted = query.wanted()?;
    let rows = call.store().teams(visible, wanted.after(), wanted.limit_and_one()).await?;
    let page = wanted.page(rows, |team| team.name.to_string());
    Ok(Json(page::map(page, |team| view(&team))))
}

/// Create a team.
#[utoipa::path(post, path = "/v1/teams", tag = "access", request_body = CreateTeam,
    responses((status = 201, body = TeamView), Problems))]
pub(super) async fn create_team(
    call: Call,
    Body(body): Body<CreateTeam>,
) -> Result<(StatusCode, Json<TeamView>), ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let team = call.store().create_team(&field("/name", &body.name)?, &call.by()).await?;
    Ok((StatusCode::CREATED, Json(view(&team))))
}

/// Remove a team that has no app, token or key; users have no role there any more.
#[utoipa::path(delete, path = "/v1/teams/{team}", tag = "access", params(("team" = String, Path)),
    responses((status = 204, description = "There is no such team any more."), Problems))]
pub(super) async fn remove_team(
    call: Call,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let team = call.team(Some(&name), Verb::ManageAccess).await?;
    call.store().remove_team(&team, &call.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(team: &Team) -> TeamView {
    TeamView { id: team.id.to_string(), name: team.name.to_string() }
}
