//! Keyset pages: a token holds the key of the last item, opaque to clients.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_api::{PAGE_DEFAULT, PAGE_MAX, Page};
use berth_model::App;
use berth_model::principal::Verb;
use serde::Deserialize;
use utoipa::IntoParams;

use super::call::Call;
use super::problem::ApiError;

/// Version of the form of tokens, with which each begins.
const FORM: &str = "1.";
/// No key is longer.
const KEY_BYTES_MAX: usize = 256;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Most entries; 50 when absent, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// The same of a list whose entries are of apps, or of the platform.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AppPageQuery {
    /// Only those of this app.
    app: Option<String>,
    /// Most entries; 50 when absent, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

impl AppPageQuery {
    /// The app, if the caller sees it; nothing where none was named.
    pub(super) async fn app(&self, call: &Call) -> Result<Option<App>, ApiError> {
        match &self.app {
            Some(name) => call.app(name, Verb::Read).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn wanted(self) -> Result<Wanted, ApiError> {
        PageQuery::new(self.limit, self.page_token).wanted()
    }
}

/// How many items after which key.
pub(crate) struct Wanted {
    limit: u32,
    after: Option<String>,
}

impl PageQuery {
    /// For handlers whose query has parameters of its own.
    pub(crate) fn new(limit: Option<u32>, page_token: Option<String>) -> Self {
        Self { limit, page_token }
    }

    pub(crate) fn wanted(self) -> Result<Wanted, ApiError> {
        let limit = self.limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(ApiError::invalid("limit", "use 1 to 200"));
        }
        let after = self.page_token.as_deref().map(open).transpose()?;
        Ok(Wanted { limit, after })
    }
}

impl Wanted {
    /// The key of the last item of the page before.
    pub(crate) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The same as the kind of key that the list has.
    pub(crate) fn after_as<T: std::str::FromStr>(&self) -> Result<Option<T>, ApiError> {
        self.after.as_deref().map(|key| key.parse().map_err(|_| wrong())).transpose()
    }

    /// One more than is wanted: it tells whether there is a next page.
    pub(crate) fn limit_and_one(&self) -> u32 {
        self.limit + 1
    }

    /// A page of at most `limit_and_one` rows; `key` is what the next page begins after.
    pub(crate) fn page<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_page_token = rows.last().filter(|_| more).map(|last| seal(&key(last)));
        Page { items: rows, next_page_token }
    }
}

/// The page with each item in another form.
pub(crate) fn map<T, U>(page: Page<T>, view: impl FnMut(T) -> U) -> Page<U> {
    let next_page_token = page.next_page_token;
    Page { items: page.items.into_iter().map(view).collect(), next_page_token }
}

fn seal(key: &str) -> String {
    format!("{FORM}{}", URL_SAFE_NO_PAD.encode(key))
}

fn open(token: &str) -> Result<String, ApiError> {
    token
        .strip_prefix(FORM)
        .filter(|rest| rest.len() <= 2 * KEY_BYTES_MAX)
        .and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(wrong)
}

fn wrong() -> ApiError {
    ApiError::invalid("page_token", "this is not a token of a page of this list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_where_the_next_one_begins_only_if_there_is_one() {
        let wanted = PageQuery::new(Some(2), None).wanted().unwrap();
        let page = wanted.page(vec!["a", "b", "c"], |item| (*item).to_owned());
        assert_eq!(page.items, ["a", "b"]);
        let next = PageQuery::new(Some(2), page.next_page_token).wanted().unwrap();
        assert_eq!(next.after(), Some("b"));
        assert_eq!(next.page(vec!["c"], |item| (*item).to_owned()).next_page_token, None);
    }

    #[test]
    fn a_token_of_another_form_is_refused() {
        for token in ["", "1.%%", "2.YQ", "1.gICA"] {
            assert!(open(token).is_err(), "{token}");
        }
        for limit in [0, 201] {
            assert!(PageQuery::new(Some(limit), None).wanted().is_err());
        }
    }
}
