//! Draws the page of an extension as text.
//!
//! Takes blocks, gives lines. What the extension wrote stays text: it moves no cursor and has no
//! colours.

use berth_api::{ChartForm, ChartPoint, NoticeLevel, ShownPage, ViewBlock};
use berth_model::text::printable;

use crate::output::table;

/// Longest bar, characters.
const BAR_MAX: usize = 40;
/// Most points of a line; of more, the largest of several stands for them.
const LINE_MAX: usize = 60;
/// Heights of a line.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A whole page.
pub(super) fn page(shown: &ShownPage) -> String {
    let title = match &shown.app {
        Some(app) => format!("{}: {}", plain(app), plain(&shown.page.title)),
        None => plain(&shown.page.title),
    };
    let blocks = shown.blocks.iter().map(block);
    [underlined(&title, '=')].into_iter().chain(blocks).collect::<Vec<_>>().join("\n")
}

/// One line without anything that a terminal obeys.
pub(super) fn plain(text: &str) -> String {
    printable(text, usize::MAX).replace('\t', " ")
}

fn block(block: &ViewBlock) -> String {
    match block {
        ViewBlock::Heading { text } => underlined(&plain(text), '-'),
        ViewBlock::Text { text } => indented(text, "", ""),
        ViewBlock::Table { head, rows } => rows_under(head, rows),
        ViewBlock::List { items } => {
            items.iter().map(|item| format!("- {}\n", plain(item))).collect()
        }
        ViewBlock::KeyValue { entries } => {
            let keys: Vec<String> = entries.iter().map(|entry| plain(&entry.key)).collect();
            let width = widest(&keys);
            let line = |(key, value): (&String, String)| {
                format!("{key:<width$}  {value}").trim_end().to_owned() + "\n"
            };
            keys.iter().zip(entries.iter().map(|entry| plain(&entry.value))).map(line).collect()
        }
        ViewBlock::Chart { form, unit, points } => {
            let unit = unit.as_deref().map(|unit| format!(" {}", plain(unit))).unwrap_or_default();
            match form {
                ChartForm::Bars => bars(points, &unit),
                ChartForm::Line => line(points, &unit),
            }
        }
        ViewBlock::Notice { level, text } => {
            let mark = match level {
                NoticeLevel::Info => "note: ",
                NoticeLevel::Warning => "warning: ",
                NoticeLevel::Error => "error: ",
            };
            indented(text, mark, &" ".repeat(mark.len()))
        }
        ViewBlock::Code { text } => indented(text, "    ", "    "),
    }
}

fn underlined(text: &str, with: char) -> String {
    let line: String = std::iter::repeat_n(with, text.chars().count()).collect();
    format!("{text}\n{line}\n")
}

/// Lines, the first after one mark and the others after another.
fn indented(text: &str, first: &str, others: &str) -> String {
    let marks = [first].into_iter().chain(std::iter::repeat(others));
    let line = |(mark, line): (&str, &str)| {
        let shown = printable(line, usize::MAX);
        format!("{mark}{shown}").trim_end().to_owned() + "\n"
    };
    let lines: String = marks.zip(text.lines()).map(line).collect();
    if lines.is_empty() { first.trim_end().to_owned() + "\n" } else { lines }
}

fn rows_under(head: &[String], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|name| plain(name).to_uppercase()).collect();
    let heads: Vec<&str> = head.iter().map(String::as_str).collect();
    if rows.is_empty() {
        return format!("{}\n(nothing)\n", heads.join("  "));
    }
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    table(&heads, &rows)
}

fn widest(texts: &[String]) -> usize {
    texts.iter().map(|text| text.chars().count()).max().unwrap_or(0)
}

/// A bar for each point, the largest as long as a bar may be.
fn bars(points: &[ChartPoint], unit: &str) -> String {
    let labels: Vec<String> = points.iter().map(|point| plain(&point.label)).collect();
    let width = widest(&labels);
    let most = points.iter().map(|point| point.value).fold(0.0, f64::max);
    let bar = |(label, point): (&String, &ChartPoint)| {
        let share = if most > 0.0 { (point.value / most).clamp(0.0, 1.0) } else { 0.0 };
        let bar = "█".repeat((share * BAR_MAX as f64).round() as usize);
        let space = if bar.is_empty() { "" } else { " " };
        format!("{label:<width$}  {bar}{space}{}{unit}\n", number(point.value))
    };
    labels.iter().zip(points).map(bar).collect()
}

/// The points as heights between the smallest and the largest of them.
fn line(points: &[ChartPoint], unit: &str) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return "(no points)\n".to_owned();
    };
    let each = points.len().div_ceil(LINE_MAX);
    let values: Vec<f64> = points
        .chunks(each)
        .map(|some| some.iter().map(|point| point.value).fold(f64::NEG_INFINITY, f64::max))
        .collect();
    let smallest = points.iter().map(|point| point.value).fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let span = largest - smallest;
    let height = |value: &f64| {
        let share = if span > 0.0 { (value - smallest) / span } else { 0.0 };
        HEIGHTS[((share * 7.0).round() as usize).min(7)]
    };
    let drawn: String = values.iter().map(height).collect();
    let (smallest, largest, now) = (number(smallest), number(largest), number(last.value));
    format!(
        "{drawn}\n{} to {}: {smallest} to {largest}{unit}, {now}{unit} at the end\n",
        plain(&first.label),
        plain(&last.label),
    )
}

/// A number for people: three decimals at most.
fn number(value: f64) -> String {
    if value.abs() >= 1e15 {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use berth_api::{ExtensionPage, KeyValueEntry, PagePlace};

    use super::*;

    fn text(text: &str) -> String {
        text.to_owned()
    }

    fn points(values: &[f64]) -> Vec<ChartPoint> {
        let point =
            |(at, value): (usize, &f64)| ChartPoint { label: format!("p{at}"), value: *value };
        values.iter().enumerate().map(point).collect()
    }

    fn shown(blocks: Vec<ViewBlock>) -> String {
        let place = PagePlace::App;
        let page = ExtensionPage { id: text("owner"), title: text("Owner"), place };
        super::page(&ShownPage { page, app: Some(text("shop")), blocks })
    }

    #[test]
    fn a_block_of_each_type() {
        let entry = |key: &str, value: &str| KeyValueEntry { key: text(key), value: text(value) };
        let drawn = shown(vec![
            ViewBlock::Notice { level: NoticeLevel::Warning, text: text("It is late.\nGo home.") },
            ViewBlock::Notice { level: NoticeLevel::Info, text: text("") },
            ViewBlock::Heading { text: text("People") },
            ViewBlock::Text { text: text("They know.\n\nAsk them.") },
            ViewBlock::Table {
                head: vec![text("Name"), text("Since")],
                rows: vec![vec![text("ada"), text("1843")], vec![text("grace h."), text("1952")]],
            },
            ViewBlock::Table { head: vec![text("Name")], rows: Vec::new() },
            ViewBlock::List { items: vec![text("one"), text("two")] },
            ViewBlock::KeyValue { entries: vec![entry("port", "5000"), entry("a", "")] },
            ViewBlock::Chart {
                form: ChartForm::Bars,
                unit: Some(text("ms")),
                points: points(&[1.0, 0.0, 2.5]),
            },
            ViewBlock::Chart {
                form: ChartForm::Line,
                unit: None,
                points: points(&[-1.0, 0.0, 2.5, 1.25]),
            },
            ViewBlock::Chart { form: ChartForm::Line, unit: None, points: Vec::new() },
            ViewBlock::Code { text: text("if a {\n    b\n}") },
        ]);
        insta::assert_snapshot!(drawn);
    }

    #[test]
    fn nothing_of_it_moves_a_cursor_or_looks_like_another_line() {
        let evil = "\u{1b}[2J\u{7}a\u{202e}\n$ rm\t-rf";
        let drawn = shown(vec![
            ViewBlock::Heading { text: text(evil) },
            ViewBlock::Table { head: vec![text(evil)], rows: vec![vec![text(evil)]] },
            ViewBlock::List { items: vec![text(evil)] },
            ViewBlock::KeyValue {
                entries: vec![KeyValueEntry { key: text(evil), value: text(evil) }],
            },
            ViewBlock::Code { text: text(evil) },
            ViewBlock::Chart {
                form: ChartForm::Bars,
                unit: Some(text(evil)),
                points: vec![ChartPoint { label: text(evil), value: 1.0 }],
            },
        ]);
        assert!(!drawn.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{drawn}");
        // What has lines keeps them, and each stays within its block.
        assert_eq!(drawn.matches("\n    $ rm").count(), 1, "{drawn}");
        assert!(!drawn.contains("\n$ rm"), "{drawn}");
    }

    #[test]
    fn charts_of_strange_numbers_are_drawn() {
        let long: Vec<f64> = (0..500).map(f64::from).collect();
        for values in [&[0.0, 0.0][..], &[f64::MAX, f64::MIN], &[1e300, 1e-300], &long] {
            for form in [ChartForm::Bars, ChartForm::Line] {
                let block = ViewBlock::Chart { form, unit: None, points: points(values) };
                let drawn = super::block(&block);
                let widest = drawn.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= 80, "{drawn}");
            }
        }
        assert_eq!(number(0.1 + 0.2), "0.3");
        assert_eq!(number(-20.0), "-20");
        assert_eq!(number(1e300), "1.000e300");
    }
}
