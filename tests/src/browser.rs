//! A person with a browser that keeps cookies, as far as the flows need one.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use reqwest::blocking::{Client, RequestBuilder};

use crate::Platform;

/// A browser on one app.
pub struct Browser {
    client: Client,
    base: String,
    cookies: BTreeMap<String, String>,
}

/// What a page gave.
#[derive(Debug)]
pub struct Page {
    /// Status of the answer.
    pub status: u16,
    /// Where it sends the browser.
    pub location: Option<String>,
    /// Its body.
    pub text: String,
}

impl Browser {
    /// A browser without cookies.
    pub fn on(platform: &Platform, app: &str) -> Self {
        Self {
            client: platform.client(&format!("{app}.localhost")),
            base: platform.url(app, ""),
            cookies: BTreeMap::new(),
        }
    }

    /// Opens a page.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&mut self, path: &str) -> Result<Page> {
        let request = self.client.get(format!("{}{path}", self.base));
        self.send(request)
    }

    /// Sends a form.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let url = format!("{}{path}", self.base);
        let request = self.client.post(&url).header("referer", &url).form(fields);
        self.send(request)
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    fn send(&mut self, request: RequestBuilder) -> Result<Page> {
        let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let answer = request.header("cookie", cookies.join("; ")).send().context("no answer")?;
        for header in answer.headers().get_all("set-cookie") {
            let pair = header.to_str()?.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let location =
            answer.headers().get("location").and_then(|l| l.to_str().ok()).map(str::to_owned);
        Ok(Page { status: answer.status().as_u16(), location, text: answer.text()? })
    }
}

/// The value of a hidden field of a form.
pub fn field(page: &str, name: &str) -> Option<String> {
    let after = page.split(&format!("name=\"{name}\" value=\"")).nth(1)?;
    after.split('"').next().map(str::to_owned)
}
