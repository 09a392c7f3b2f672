//! Pages of extensions.
//!
//! Who sees an extension in the list sees its pages. A panel is shown to who sees the app, and only
//! where the extension is for that app; an app that the caller may not see is as if it were not
//! there. A token for some apps is shown panels alone: what an extension heard of other apps may
//! stand on its pages.

use axum::Json;
use berth_api::{ExtensionPage, Page, PagePlace, ShownPage};
use berth_model::App;
use berth_model::principal::Verb;
use serde::Deserialize;
use utoipa::IntoParams;

use super::seen;
use crate::extensions::PanelOf;
use crate::http::apps;
use crate::http::call::Call;
use crate::http::document::Problems;
use crate::http::extract::{Path, Query};
use crate::http::problem::ApiError;

/// Pages that are drawn at once.
pub(in crate::http) const DRAWN_MAX: usize = 8;

/// The pages of an extension, all of them; none where it is of a kind that has no pages.
#[utoipa::path(get, path = "/v1/extensions/{extension}/pages", tag = "extensions",
    params(("extension" = String, Path)),
    responses((status = 200, body = Page<ExtensionPage>), Problems))]
pub(in crate::http) async fn list_extension_pages(
    call: Call,
    Path(id): Path<String>,
) -> Result<Json<Page<ExtensionPage>>, ApiError> {
    let row = seen(&call, &id).await?;
    let _place = place(&call)?;
    let items = call.actions().extensions().pages(row.id).await?;
    Ok(Json(Page { items, next_page_token: None }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct PanelQuery {
    /// The app whose panel it is; of pages whose place is `app`, and of no others.
    app: Option<String>,
}

/// What a page of an extension shows now. The extension is asked each time; when it fails, or gives
/// what is no view, the answer is 502 and says what is wrong.
#[utoipa::path(get, path = "/v1/extensions/{extension}/pages/{page}", tag = "extensions",
    params(("extension" = String, Path), ("page" = String, Path), PanelQuery),
    responses((status = 200, body = ShownPage), Problems))]
pub(in crate::http) async fn show_extension_page(
    call: Call,
    Path((id, name)): Path<(String, String)>,
    Query(query): Query<PanelQuery>,
) -> Result<Json<ShownPage>, ApiError> {
    let row = seen(&call, &id).await?;
    let app = match &query.app {
        Some(app) => Some(call.app(app, Verb::Read).await?),
        None => None,
    };
    if let Some(app) = &app
        && !row.is_for(app.id)
    {
        return Err(ApiError::not_found("panel of this extension for the app", app.name.as_str()));
    }
    let _place = place(&call)?;
    let extensions = call.actions().extensions();
    let pages = extensions.pages(row.id.clone()).await?;
    let page = pages
        .into_iter()
        .find(|page| page.id == name)
        .ok_or_else(|| ApiError::not_found("page", &name))?;
    let of = match (page.place, &app) {
        (PagePlace::Platform, None) if call.caller.apps.is_some() => {
            return Err(ApiError::forbidden(
                "your token is for some apps, and this page may tell of others",
            ));
        }
        (PagePlace::Platform, None) => None,
        (PagePlace::App, Some(app)) => Some(panel(&call, app).await?),
        (PagePlace::Platform, Some(_)) => {
            return Err(ApiError::invalid("app", "this page is not of an app; ask without one"));
        }
        (PagePlace::App, None) => {
            return Err(ApiError::invalid("app", "this page is of an app; name it"));
        }
    };
    let blocks = extensions.page(row.id, name, of).await?;
    Ok(Json(ShownPage { page, app: app.map(|app| app.name.to_string()), blocks }))
}

/// What the extension is told of the app.
async fn panel(call: &Call, app: &App) -> Result<PanelOf, ApiError> {
    let view = apps::view(call, app).await?;
    let state = serde_json::to_string(&view)
        .map_err(|error| ApiError::unavailable(format!("the app cannot be shown: {error}")))?;
    Ok(PanelOf { id: app.id, name: app.name.to_string(), state })
}

/// A place among those that are drawn now: each may take as much as a call of its kind may.
fn place(call: &Call) -> Result<tokio::sync::SemaphorePermit<'_>, ApiError> {
    call.platform
        .drawing
        .try_acquire()
        .map_err(|_| ApiError::unavailable("other pages are being drawn; try again in a moment"))
}
