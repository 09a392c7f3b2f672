//! What extensions say of their pages, judged before anybody sees it.
//!
//! Takes the list of pages and the JSON of a view as a component gave them; gives types that can be
//! drawn, or says which page or block is wrong and why. Texts are made fit for a terminal here.

use std::collections::BTreeSet;

use berth_api::{ChartForm, ExtensionPage, PagePlace, ViewBlock};
use berth_extensions::console::Page;
use berth_model::text::printable;
use serde::Deserialize;
use serde_json::Value;

/// Most pages of an extension.
const PAGES_MAX: usize = 16;
/// Longest id of a page, bytes.
const ID_BYTES_MAX: usize = 63;
/// Most blocks of a view.
const BLOCKS_MAX: usize = 100;
/// Most columns of a table.
const COLUMNS_MAX: usize = 16;
/// Most rows of a table, items of a list, entries and points.
const ROWS_MAX: usize = 500;
/// Longest text of one line: a title, a cell, an item, a label; bytes.
const LINE_BYTES_MAX: usize = 1_000;
/// Longest text of several lines, bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Why what an extension gave cannot be shown.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Invalid {
    /// It is no view at all.
    #[error("a view is an object {{\"blocks\": […]}}: {0}")]
    View(String),
    /// There is too much of it.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// A page is wrong.
    #[error("page {number}: {wrong}")]
    Page { number: usize, wrong: Wrong },
    /// A block is wrong.
    #[error("block {number}: {wrong}")]
    Block { number: usize, wrong: Wrong },
}

/// There are more of something than are taken.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{count} {what}, {count_max} at most are taken")]
pub(crate) struct TooMany {
    what: &'static str,
    count: usize,
    count_max: usize,
}

/// What is wrong with a page or a block.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("{0}")]
    Form(String),
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("{what} has {bytes} bytes, {bytes_max} at most are taken")]
    TooLong { what: &'static str, bytes: usize, bytes_max: usize },
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("table row {row} has {cells} cells, its head has {head}")]
    Cells { row: usize, cells: usize, head: usize },
    #[error("bar {0} is below 0")]
    Below(usize),
    #[error(
        "the id '{0}' is not of lower-case letters, digits and hyphens, at most {ID_BYTES_MAX}"
    )]
    Id(String),
    #[error("the id '{0}' is there twice")]
    Twice(String),
    #[error("the place is 'platform' or 'app', not '{0}'")]
    Place(String),
}

/// The pages of an extension.
pub(crate) fn pages(said: Vec<Page>) -> Result<Vec<ExtensionPage>, Invalid> {
    counted("pages", said.len(), PAGES_MAX)?;
    let mut ids = BTreeSet::new();
    let mut pages = Vec::with_capacity(said.len());
    for (index, page) in said.into_iter().enumerate() {
        let page = self::page(page).and_then(|page| match ids.insert(page.id.clone()) {
            true => Ok(page),
            false => Err(Wrong::Twice(page.id)),
        });
        pages.push(page.map_err(|wrong| Invalid::Page { number: index + 1, wrong })?);
    }
    Ok(pages)
}

fn page(said: Page) -> Result<ExtensionPage, Wrong> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = said.id.starts_with('-') || said.id.ends_with('-');
    if said.id.is_empty() || said.id.len() > ID_BYTES_MAX || ends || !said.id.chars().all(known) {
        return Err(Wrong::Id(printable(&said.id, ID_BYTES_MAX)));
    }
    let place = match said.place.as_str() {
        "platform" => PagePlace::Platform,
        "app" => PagePlace::App,
        other => return Err(Wrong::Place(printable(other, ID_BYTES_MAX))),
    };
    let mut title = said.title;
    named("its title", &mut title)?;
    Ok(ExtensionPage { id: said.id, title, place })
}

/// The blocks of a view.
pub(crate) fn blocks(said: &str) -> Result<Vec<ViewBlock>, Invalid> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct View {
        blocks: Vec<Value>,
    }
    let view: View =
        serde_json::from_str(said).map_err(|error| Invalid::View(error.to_string()))?;
    counted("blocks", view.blocks.len(), BLOCKS_MAX)?;
    let read = |(index, block): (usize, Value)| {
        self::block(block).map_err(|wrong| Invalid::Block { number: index + 1, wrong })
    };
    view.blocks.into_iter().enumerate().map(read).collect()
}

fn block(said: Value) -> Result<ViewBlock, Wrong> {
    let mut block: ViewBlock =
        serde_json::from_value(said).map_err(|error| Wrong::Form(error.to_string()))?;
    match &mut block {
        ViewBlock::Heading { text } => named("its text", text)?,
        ViewBlock::Text { text } | ViewBlock::Notice { text, .. } | ViewBlock::Code { text } => {
            lines("its text", text)?;
        }
        ViewBlock::Table { head, rows } => table(head, rows)?,
        ViewBlock::List { items } => {
            counted("items", items.len(), ROWS_MAX)?;
            items.iter_mut().try_for_each(|item| line("an item", item))?;
        }
        ViewBlock::KeyValue { entries } => {
            counted("entries", entries.len(), ROWS_MAX)?;
            for entry in entries {
                named("a key", &mut entry.key)?;
                line("a value", &mut entry.value)?;
            }
        }
        ViewBlock::Chart { form, unit, points } => {
            counted("points", points.len(), ROWS_MAX)?;
            if let Some(unit) = unit {
                line("its unit", unit)?;
            }
            for (index, point) in points.iter_mut().enumerate() {
                line("a label", &mut point.label)?;
                if *form == ChartForm::Bars && point.value < 0.0 {
                    return Err(Wrong::Below(index + 1));
                }
            }
        }
    }
    Ok(block)
}

fn table(head: &mut [String], rows: &mut [Vec<String>]) -> Result<(), Wrong> {
    if head.is_empty() {
        return Err(Wrong::Empty("its head"));
    }
    counted("columns", head.len(), COLUMNS_MAX)?;
    counted("rows", rows.len(), ROWS_MAX)?;
    for (index, row) in rows.iter().enumerate() {
        if row.len() != head.len() {
            return Err(Wrong::Cells { row: index + 1, cells: row.len(), head: head.len() });
        }
    }
    head.iter_mut().try_for_each(|name| line("the name of a column", name))?;
    rows.iter_mut().flatten().try_for_each(|cell| line("a cell", cell))
}

fn counted(what: &'static str, count: usize, count_max: usize) -> Result<(), TooMany> {
    if count > count_max { Err(TooMany { what, count, count_max }) } else { Ok(()) }
}

fn short(what: &'static str, text: &str, bytes_max: usize) -> Result<(), Wrong> {
    let bytes = text.len();
    if bytes > bytes_max { Err(Wrong::TooLong { what, bytes, bytes_max }) } else { Ok(()) }
}

/// One line, with at least a character.
fn named(what: &'static str, text: &mut String) -> Result<(), Wrong> {
    if text.trim().is_empty() {
        return Err(Wrong::Empty(what));
    }
    line(what, text)
}

/// One line.
fn line(what: &'static str, text: &mut String) -> Result<(), Wrong> {
    short(what, text, LINE_BYTES_MAX)?;
    *text = printable(text, usize::MAX);
    Ok(())
}

/// Several lines.
fn lines(what: &'static str, text: &mut String) -> Result<(), Wrong> {
    short(what, text, TEXT_BYTES_MAX)?;
    let fit: Vec<String> = text.lines().map(|line| printable(line, usize::MAX)).collect();
    *text = fit.join("\n");
    Ok(())
}

#[cfg(test)]
mod tests;
