//! Stacks.

use axum::Json;
use berth_api::{Page, StackView, Timestamp};
use berth_model::principal::Verb;

use super::actions::StackPart;
use super::call::Call;
use super::document::Problems;
use super::extract::{Path, Query};
use super::page::PageQuery;
use super::problem::ApiError;

/// The stacks, each with its parts.
#[utoipa::path(get, path = "/v1/stacks", tag = "stacks", params(PageQuery), responses((status = 200, body = Page<StackView>), Problems))]
pub(super) async fn list_stacks(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<StackView>>, ApiError> {
    call.may_platform(Verb::Read)?;
    let wanted = query.wanted()?;
    let mut stacks: Vec<StackView> = call.actions().stacks().await?.into_iter().map(view).collect();
    let key = |stack: &StackView| format!("{} {}", stack.name, stack.part);
    stacks.sort_by_key(key);
    stacks.retain(|stack| wanted.after().is_none_or(|after| *key(stack) > *after));
    Ok(Json(wanted.page(stacks, key)))
}

/// Make a stack anew from current packages; later builds use it. Answers when it is made.
#[utoipa::path(post, path = "/v1/stacks/{stack}/update", tag = "stacks", params(("stack" = String, Path)),
    responses((status = 200, body = Vec<StackView>), Problems))]
pub(super) async fn update_stack(
    call: Call,
    Path(stack): Path<String>,
) -> Result<Json<Vec<StackView>>, ApiError> {
    call.may_platform(Verb::ManagePlatform)?;
    let parts = call.actions().update_stack(stack, call.caller.clone()).await?;
    Ok(Json(parts.into_iter().map(view).collect()))
}

fn view(part: StackPart) -> StackView {
    StackView {
        name: part.name,
        part: part.part,
        digest: part.digest,
        bytes: part.bytes,
        made_at: part.made_at_ms.map(Timestamp),
    }
}
