//! Pages of extensions: what one shows is data, and who shows it draws it.
//!
//! An extension of the kind `console` gives blocks of the types below and nothing else: no markup,
//! no links, no pictures, no code that runs. `plugins/docs/console.md` has one example of each.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page that an extension has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionPage {
    /// Its name in paths: lower-case letters, digits and hyphens.
    pub id: String,
    /// For people.
    pub title: String,
    /// Where it belongs.
    pub place: PagePlace,
}

/// Where a page belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PagePlace {
    /// A page of its own.
    Platform,
    /// A panel of each app that the extension is for.
    App,
}

/// What a page shows now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShownPage {
    /// The page.
    pub page: ExtensionPage,
    /// The app that it is about, of a panel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// What it shows, from the top.
    pub blocks: Vec<ViewBlock>,
}

/// A part of a page. Extensions give it in this form, and a field that its type does not have is
/// refused, so that their authors learn of a slip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum ViewBlock {
    /// Begins a part of the page.
    Heading {
        /// One line.
        text: String,
    },
    /// Words, in paragraphs.
    Text {
        /// Lines end with a line feed.
        text: String,
    },
    /// Rows under a head.
    Table {
        /// Names of the columns.
        head: Vec<String>,
        /// Rows, each with a cell per column.
        rows: Vec<Vec<String>>,
    },
    /// Items one below the other.
    List {
        /// One line each.
        items: Vec<String>,
    },
    /// Names with their values.
    KeyValue {
        /// In the order in which they are shown.
        entries: Vec<KeyValueEntry>,
    },
    /// Numbers, drawn.
    Chart {
        /// How they are drawn.
        form: ChartForm,
        /// What the numbers count, shown behind them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
        /// From the left, or from the top.
        points: Vec<ChartPoint>,
    },
    /// Something to be seen before everything else.
    Notice {
        /// How much it matters.
        level: NoticeLevel,
        /// Lines end with a line feed.
        text: String,
    },
    /// Text whose spaces and lines matter.
    Code {
        /// Lines end with a line feed.
        text: String,
    },
}

/// A name with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyValueEntry {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
}

/// How a chart is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChartForm {
    /// A bar for each point; none is below 0.
    Bars,
    /// A line through the points.
    Line,
}

/// A number of a chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChartPoint {
    /// What it belongs to: a name, a time.
    pub label: String,
    /// How much it is.
    pub value: f64,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NoticeLevel {
    /// Good to know.
    Info,
    /// Look at it.
    Warning,
    /// Something is broken.
    Error,
}
