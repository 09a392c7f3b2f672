//! The one place where failures become problem documents.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_api::{ExtensionReview, FieldProblem, NeedsApproval, Problem};
use berth_extensions::AotError;
use berth_extensions::powers::CallError;
use berth_model::plan::Refusal;
use berth_store::StoreError;

use super::actions::ActionError;
use super::guard;
use crate::buildpacks::BuildpackError;
use crate::extensions::{ExtensionError, NotCalled};

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: Option<String>,
    errors: Vec<FieldProblem>,
    /// Seconds until it may be tried again.
    retry_after_s: Option<u64>,
    /// What somebody has to look at first.
    review: Option<Box<ExtensionReview>>,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let detail = Some(detail.into());
        Self { status, kind, title, detail, errors: Vec::new(), retry_after_s: None, review: None }
    }

    /// With `Retry-After` (RFC 9110, section 10.2.3).
    pub(crate) fn after(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// 401: nobody knows who calls.
    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Who are you?", detail)
    }

    /// 403: the caller may know that it exists, but not do this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// 404, for what does not exist and for what the caller may not know to exist.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        let name: String = name.chars().take(80).flat_map(char::escape_default).collect();
        Self::missing(format!("there is no {what} '{name}'"))
    }

    fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 409: as things are, no.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Not as things are", detail)
    }

    /// 422: a part of the request is wrong.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.into(), detail.into());
        Self {
            errors: vec![FieldProblem { pointer, detail: detail.clone() }],
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Not valid", detail)
        }
    }

    /// 400: not a request of this API.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Not understood", detail)
    }

    /// 500: the chain is logged here, once; the caller gets the request's id.
    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(request = guard::request_id(), "{}", chain(error));
        let detail = "the platform failed; its log tells more under the id of this request";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal failure", detail)
    }

    /// 503: it may work later.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not now", detail)
    }

    /// An extension gave no answer. Of a fault the caller gets the first line: the rest is for who
    /// reads its log.
    fn not_called(error: &NotCalled) -> Self {
        match error {
            NotCalled::Resting(_) => Self::unavailable(error.to_string()),
            NotCalled::Call(CallError::Host(_)) => Self::unavailable(
                "the extension cannot be called now; its log tells an administrator why",
            ),
            NotCalled::Call(CallError::Failure(_) | CallError::Guest(_)) => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                let title = "The extension failed";
                Self::new(StatusCode::BAD_GATEWAY, "extension-failed", title, first)
            }
        }
    }

    /// Whether nothing was done and the same request may be sent again.
    pub(crate) fn is_refusal(&self) -> bool {
        self.status.is_client_error()
    }
}

/// An error with everything that caused it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: self.kind.to_owned(),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            instance: Some(guard::request_id()).filter(|id| !id.is_empty()),
            errors: self.errors,
        };
        let mut response = match self.review {
            Some(review) => {
                (self.status, Json(NeedsApproval { problem, review: *review })).into_response()
            }
            None => (self.status, Json(problem)).into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"berth\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal.into(),
            StoreError::Missing { .. } => Self::missing(error.to_string()),
            StoreError::LastAdministrator(_) | StoreError::TeamStays { .. } => {
                Self::conflict(error.to_string())
            }
            StoreError::Exists { .. } => {
                Self::new(StatusCode::CONFLICT, "exists", "Exists already", error.to_string())
            }
            StoreError::Changed { .. } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "changed",
                "Changed in the meantime",
                error.to_string(),
            ),
            StoreError::Full(_) | StoreError::Locked(_) => {
                tracing::error!(request = guard::request_id(), "{}", chain(&error));
                Self::unavailable(error.to_string())
            }
            error => Self::internal(&error),
        }
    }
}

impl From<ActionError> for ApiError {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::Refused(detail) => Self::conflict(detail),
            ActionError::Missing(detail) => Self::missing(detail),
            ActionError::Failed(detail) => {
                Self::new(StatusCode::CONFLICT, "failed", "It did not come about", detail)
            }
            ActionError::Unavailable(detail) => Self::unavailable(detail),
            error @ ActionError::Internal(_) => Self::internal(&error),
        }
    }
}

impl From<ExtensionError> for ApiError {
    fn from(error: ExtensionError) -> Self {
        let detail = error.to_string();
        match error {
            ExtensionError::NeedsApproval(review) | ExtensionError::OtherHash { review, .. } => {
                let review = super::extensions::shown_review(&review);
                let title = "Look at it first";
                Self {
                    review: Some(Box::new(review)),
                    ..Self::new(StatusCode::CONFLICT, "needs-approval", title, detail)
                }
            }
            ExtensionError::Component(_)
            | ExtensionError::Start(_)
            | ExtensionError::Load(_)
            | ExtensionError::Compile(AotError::Compiler { .. }) => {
                Self::invalid("component", detail)
            }
            ExtensionError::TooMuch(_) => Self::invalid("granted", detail),
            ExtensionError::Config { .. } => Self::invalid("config", detail),
            ExtensionError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
            }
            ExtensionError::NotFound(_) => Self::missing(detail),
            ExtensionError::Conflict(_) => Self::conflict(detail),
            ExtensionError::NotCalled(error) => Self::not_called(&error),
            ExtensionError::Store(error) => error.into(),
            error @ (ExtensionError::Compile(_) | ExtensionError::Blobs(_)) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<BuildpackError> for ApiError {
    fn from(error: BuildpackError) -> Self {
        let detail = error.to_string();
        match error {
            BuildpackError::Component(_)
            | BuildpackError::Load(_)
            | BuildpackError::Compile(AotError::Compiler { .. }) => {
                Self::invalid("component", detail)
            }
            BuildpackError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
            }
            BuildpackError::Taken { .. } | BuildpackError::Ships(_) => {
                Self::new(StatusCode::CONFLICT, "taken", "Taken", detail)
            }
            BuildpackError::Full(_) | BuildpackError::NotAdded(_) => Self::conflict(detail),
            BuildpackError::NotFound(_) => Self::missing(detail),
            BuildpackError::Order(_) => Self::invalid("/groups", detail),
            BuildpackError::Store(error) => error.into(),
            error @ (BuildpackError::Compile(_) | BuildpackError::Blobs(_)) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NoApp
            | Refusal::NoDomain(_)
            | Refusal::NoVolume(_)
            | Refusal::NotAddon(_)
            | Refusal::NotAttached(_)
            | Refusal::NoSuchRelease(_) => Self::missing(detail),
            Refusal::NameTaken(_) | Refusal::DomainTaken(_) | Refusal::VolumeTaken(_) => {
                Self::new(StatusCode::CONFLICT, "taken", "Taken", detail)
            }
            Refusal::Full
            | Refusal::Formation
            | Refusal::TooManyDomains
            | Refusal::TooManyVolumes
            | Refusal::VolumeAlone { .. }
            | Refusal::VolumeInUse { .. }
            | Refusal::WasmVolume
            | Refusal::IsAddon(_)
            | Refusal::Attached(_)
            | Refusal::ExportTaken(_)
            | Refusal::AddonInUse(_)
            | Refusal::TooManyLinks
            | Refusal::WasmLink
            | Refusal::HasVolumes(_)
            | Refusal::NoRelease
            | Refusal::Stopped
            | Refusal::NothingBefore
            | Refusal::AlreadyCurrent(_) => Self::conflict(detail),
            Refusal::NoProcess { process, .. } | Refusal::ScaleTooLarge { process, .. } => {
                Self::invalid(format!("/processes/{process}"), detail)
            }
            Refusal::WasmScale => Self::invalid("/processes/web", detail),
            Refusal::BadConfigName(_) | Refusal::ConfigTooLarge { .. } => {
                Self::invalid("/variables", detail)
            }
            Refusal::ReservedConfigName(name)
            | Refusal::SetAndUnset(name)
            | Refusal::ConfigValueNul(name)
            | Refusal::ConfigValueTooLarge { name, .. } => {
                Self::invalid(format!("/variables/{name}"), detail)
            }
            Refusal::DomainReserved(_) | Refusal::DomainIsAddress(_) => {
                Self::invalid("/domain", detail)
            }
            Refusal::VolumeSize(_) => Self::invalid("/size_mib", detail),
            Refusal::VolumePathTaken { .. } => Self::invalid("/path", detail),
            Refusal::BadBranch => Self::invalid("/deploy_branch", detail),
        }
    }
}
