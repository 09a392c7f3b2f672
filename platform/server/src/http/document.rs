//! The API's description of itself, in OpenAPI's form.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use berth_api::Problem;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::Platform;

/// What is there besides the operations.
pub(super) fn base() -> OpenApi {
    let mut components = Components::new();
    components.add_security_scheme(
        "token",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    OpenApiBuilder::new()
        .info(Info::new("Berth", "1"))
        .components(Some(components))
        .security(Some([SecurityRequirement::new::<_, _, String>("token", [])]))
        .build()
}

/// Serves the document.
pub(super) fn router(document: OpenApi) -> Router<Arc<Platform>> {
    let text: Arc<str> = document.to_json().unwrap_or_default().into();
    Router::new().route(
        "/v1/openapi.json",
        get(move || {
            let text = text.to_string();
            async move { json(text) }
        }),
    )
}

fn json(text: String) -> Response {
    ([(axum::http::header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The refusals that every operation may answer with.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> std::collections::BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        [
            ("400", "The request is not understood."),
            ("401", "The token is missing or wrong."),
            ("403", "The token's role may not do this."),
            ("404", "There is no such thing, or the caller may not know of it."),
            ("409", "As things are, it cannot be done."),
            ("422", "A part of the request is wrong; `errors` says which."),
            ("default", "Any other refusal or failure."),
        ]
        .into_iter()
        .map(|(status, text)| {
            let content = ContentBuilder::new()
                .schema(Some(RefOr::Ref(Ref::from_schema_name(Problem::name()))))
                .build();
            let response = ResponseBuilder::new()
                .description(text)
                .content("application/problem+json", content)
                .build();
            (status.to_owned(), RefOr::T(response))
        })
        .collect()
    }
}
