//! `berth ext pages` and `berth ext page`: what extensions show.

use berth_api::{ExtensionPage, ExtensionView, Page, PagePlace, ShownPage};
use serde::Serialize;

use super::draw;
use crate::app_name;
use crate::arguments::PageOf;
use crate::client::{Client, segment};
use crate::commands::all;
use crate::failure::Failure;
use crate::output::{Output, table};

/// A page, and whose it is.
#[derive(Serialize)]
struct Listed {
    extension: String,
    #[serde(flatten)]
    page: ExtensionPage,
}

/// Lists the pages of an extension, or of all that have some.
pub(super) async fn list(
    id: Option<String>,
    client: &Client,
    output: &Output,
) -> Result<(), Failure> {
    let mut listed = Vec::new();
    match id {
        Some(id) => listed.extend(pages_of(&id, client).await?),
        None => {
            for extension in all::<ExtensionView>(client, "/v1/extensions").await?.items {
                if extension.kind != "console" {
                    continue;
                }
                // One that fails does not hide the others.
                match pages_of(&extension.id, client).await {
                    Ok(pages) => listed.extend(pages),
                    Err(failure) => output.note(&format!("{}: {failure}", extension.id)),
                }
            }
        }
    }
    output.value(&listed, |listed| {
        if listed.is_empty() {
            output.note("There are no pages. Extensions of the kind `console` have some.");
        }
        let row = |one: &Listed| {
            let place = match one.page.place {
                PagePlace::Platform => "a page of its own",
                PagePlace::App => "each app (--app NAME)",
            };
            let (id, title) = (one.page.id.clone(), draw::plain(&one.page.title));
            vec![one.extension.clone(), id, place.to_owned(), title]
        };
        let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
        table(&["EXTENSION", "PAGE", "OF", "TITLE"], &rows)
    })
}

async fn pages_of(id: &str, client: &Client) -> Result<Vec<Listed>, Failure> {
    let pages = all::<ExtensionPage>(client, &format!("{}/pages", path(id))).await?;
    let listed = |page| Listed { extension: id.to_owned(), page };
    Ok(pages.items.into_iter().map(listed).collect())
}

fn path(id: &str) -> String {
    format!("/v1/extensions/{}", segment(id))
}

/// Draws a page.
pub(super) async fn show(of: &PageOf, client: &Client, output: &Output) -> Result<(), Failure> {
    let id = &of.of.id;
    let pages: Page<ExtensionPage> = client.get(&format!("{}/pages", path(id))).await?;
    let Some(page) = pages.items.iter().find(|page| page.id == of.page) else {
        let names: Vec<&str> = pages.items.iter().map(|page| page.id.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "it has no pages; extensions of the kind `console` have some".to_owned(),
            names => format!("it has: {}", names.join(", ")),
        };
        return Err(Failure::failed(format!("{id} has no page '{}'", of.page)).with_hint(hint));
    };
    let named = of.app.name.as_deref();
    let query = match (page.place, named) {
        (PagePlace::App, _) => {
            format!("?app={}", segment(&app_name::resolve(named, client.server())?))
        }
        (PagePlace::Platform, None) => String::new(),
        (PagePlace::Platform, Some(_)) => {
            return Err(Failure::usage(format!("the page '{}' is not of an app", of.page))
                .with_hint("leave --app out"));
        }
    };
    let path = format!("{}/pages/{}{query}", path(id), segment(&page.id));
    let shown: ShownPage = client.get(&path).await?;
    output.value(&shown, draw::page)
}
