use berth_api::{ChartPoint, KeyValueEntry, NoticeLevel};
use serde_json::json;

use super::*;

/// A block with so many of something.
type Many = fn(usize) -> Value;

fn page_of(id: &str, title: &str, place: &str) -> Page {
    let (id, title, place) = (id.to_owned(), title.to_owned(), place.to_owned());
    Page { id, title, place, extra: Vec::new() }
}

fn one(block: Value) -> Result<ViewBlock, String> {
    let view = json!({ "blocks": [{ "type": "text", "text": "" }, block] }).to_string();
    match blocks(&view) {
        Ok(mut blocks) => Ok(blocks.remove(1)),
        Err(error) => Err(error.to_string()),
    }
}

#[track_caller]
fn refused(block: Value, told: &str) {
    let shown = block.to_string();
    let error = one(block).unwrap_err();
    assert!(error.starts_with("block 2: "), "{error}");
    assert!(error.contains(told), "{error} for {}", &shown[..shown.len().min(200)]);
}

#[test]
fn what_is_no_view_is_refused() {
    for (said, told) in [
        ("", "EOF"),
        ("[]", "invalid length 0"),
        ("{}", "missing field `blocks`"),
        ("{\"blocks\":[],\"script\":\"\"}", "unknown field `script`"),
        ("{\"blocks\":{}}", "expected a sequence"),
    ] {
        let error = blocks(said).unwrap_err().to_string();
        assert!(error.starts_with("a view is an object {\"blocks\": […]}: "), "{error}");
        assert!(error.contains(told), "{said}: {error}");
    }
    let many = |count: usize| {
        let block = json!({ "type": "text", "text": "" });
        json!({ "blocks": vec![block; count] }).to_string()
    };
    assert_eq!(blocks(&many(100)).unwrap().len(), 100);
    let error = blocks(&many(101)).unwrap_err().to_string();
    assert_eq!(error, "101 blocks, 100 at most are taken");
}

#[test]
fn a_block_that_is_wrong_is_named_by_its_number() {
    refused(json!("text"), "invalid type");
    refused(json!({ "text": "no type" }), "missing field `type`");
    refused(json!({ "type": "script", "text": "" }), "unknown variant `script`");
    refused(json!({ "type": "text" }), "missing field `text`");
    refused(json!({ "type": "text", "text": 4 }), "expected a string");
    refused(json!({ "type": "text", "text": "", "href": "x" }), "unknown field `href`");
    refused(json!({ "type": "heading", "text": " " }), "its text is empty");
    refused(json!({ "type": "notice", "level": "fatal", "text": "" }), "unknown variant `fatal`");
    refused(json!({ "type": "table", "head": [], "rows": [] }), "its head is empty");
    let short = json!({ "type": "table", "head": ["A", "B", "C"], "rows": [["1", "2", "3"], ["1", "2", "3", "4"]] });
    refused(short, "table row 2 has 4 cells, its head has 3");
    let below =
        json!({ "type": "chart", "form": "bars", "points": [{ "label": "a", "value": -1 }] });
    refused(below, "bar 1 is below 0");
    let extra = json!({ "type": "keyvalue", "entries": [{ "key": "a", "value": "b", "c": "d" }] });
    refused(extra, "unknown field `c`");
    let unnamed = json!({ "type": "keyvalue", "entries": [{ "key": "", "value": "b" }] });
    refused(unnamed, "a key is empty");
    let word =
        json!({ "type": "chart", "form": "line", "points": [{ "label": "a", "value": "b" }] });
    refused(word, "invalid type");
}

#[test]
fn everything_of_a_block_is_bounded() {
    let (long, longer) = ("x".repeat(1_000), "x".repeat(1_001));
    let point = |label: &str| json!({ "label": label, "value": 1 });
    type Made = Box<dyn Fn(&str) -> Value>;
    let texts: [(Made, &str); 7] = [
        (Box::new(|text| json!({ "type": "heading", "text": text })), "its text has"),
        (Box::new(|text| json!({ "type": "list", "items": [text] })), "an item has"),
        (Box::new(|text| json!({ "type": "table", "head": [text], "rows": [] })), "a column has"),
        (
            Box::new(|text| json!({ "type": "table", "head": ["a"], "rows": [[text]] })),
            "a cell has",
        ),
        (
            Box::new(
                |text| json!({ "type": "keyvalue", "entries": [{ "key": text, "value": text }] }),
            ),
            "a key has",
        ),
        (
            Box::new(
                move |text| json!({ "type": "chart", "form": "line", "points": [point(text)] }),
            ),
            "a label has",
        ),
        (
            Box::new(|text| json!({ "type": "chart", "form": "line", "unit": text, "points": [] })),
            "its unit has",
        ),
    ];
    for (made, told) in texts {
        one(made(&long)).unwrap();
        refused(made(&longer), &format!("{told} 1001 bytes, 1000 at most are taken"));
    }
    for kind in ["text", "notice", "code"] {
        let made = |bytes: usize| {
            let mut block = json!({ "type": kind, "text": "x".repeat(bytes) });
            if kind == "notice" {
                block["level"] = json!("info");
            }
            block
        };
        one(made(65_536)).unwrap();
        refused(made(65_537), "its text has 65537 bytes");
    }
    let counts: [(Many, usize, &str); 5] = [
        (|count| json!({ "type": "list", "items": vec!["a"; count] }), 500, "items"),
        (|count| json!({ "type": "table", "head": vec!["a"; count], "rows": [] }), 16, "columns"),
        (
            |count| json!({ "type": "table", "head": ["a"], "rows": vec![["a"]; count] }),
            500,
            "rows",
        ),
        (
            |count| json!({ "type": "keyvalue", "entries": vec![json!({ "key": "a", "value": "" }); count] }),
            500,
            "entries",
        ),
        (
            |count| json!({ "type": "chart", "form": "line", "points": vec![json!({ "label": "", "value": 1 }); count] }),
            500,
            "points",
        ),
    ];
    for (made, most, what) in counts {
        one(made(most)).unwrap();
        let told = format!("block 2: {} {what}, {most} at most are taken", most + 1);
        refused(made(most + 1), &told);
    }
}

#[test]
fn a_block_of_each_type_is_read() {
    let text = |text: &str| text.to_owned();
    for (said, read) in [
        (json!({ "type": "heading", "text": "A" }), ViewBlock::Heading { text: text("A") }),
        (json!({ "type": "text", "text": "a\nb" }), ViewBlock::Text { text: text("a\nb") }),
        (
            json!({ "type": "table", "head": ["A"], "rows": [["1"]] }),
            ViewBlock::Table { head: vec![text("A")], rows: vec![vec![text("1")]] },
        ),
        (json!({ "type": "list", "items": ["a"] }), ViewBlock::List { items: vec![text("a")] }),
        (
            json!({ "type": "keyvalue", "entries": [{ "key": "a", "value": "b" }] }),
            ViewBlock::KeyValue {
                entries: vec![KeyValueEntry { key: text("a"), value: text("b") }],
            },
        ),
        (
            json!({ "type": "chart", "form": "bars", "unit": "ms", "points": [{ "label": "a", "value": 1.5 }] }),
            ViewBlock::Chart {
                form: ChartForm::Bars,
                unit: Some(text("ms")),
                points: vec![ChartPoint { label: text("a"), value: 1.5 }],
            },
        ),
        (
            json!({ "type": "notice", "level": "warning", "text": "a" }),
            ViewBlock::Notice { level: NoticeLevel::Warning, text: text("a") },
        ),
        (json!({ "type": "code", "text": " a" }), ViewBlock::Code { text: text(" a") }),
    ] {
        let block = one(said.clone()).unwrap();
        assert_eq!(block, read);
        assert_eq!(serde_json::to_value(block).unwrap(), said);
    }
}

#[test]
fn the_reference_has_a_valid_block_of_each_type() {
    let reference = include_str!("../../../../../plugins/docs/console.md");
    let examples = reference.split("```json\n").skip(1);
    let examples = examples.map(|rest| rest.split_once("```").unwrap().0);
    let types: Vec<String> = examples
        .map(|example| {
            let said: Value = serde_json::from_str(example).unwrap();
            one(said.clone()).unwrap_or_else(|error| panic!("{example}: {error}"));
            said["type"].as_str().unwrap().to_owned()
        })
        .collect();
    let all = ["heading", "text", "table", "list", "keyvalue", "chart", "notice", "code"];
    assert_eq!(types, all);
}

#[test]
fn texts_draw_nothing_on_a_terminal() {
    let block = one(json!({ "type": "heading", "text": "a\u{1b}[2Jb\nc\u{202e}" })).unwrap();
    assert_eq!(block, ViewBlock::Heading { text: "a\\u{1b}[2Jb\\nc\\u{202e}".to_owned() });
    let block = one(json!({ "type": "code", "text": "a\u{7}\n  b" })).unwrap();
    assert_eq!(block, ViewBlock::Code { text: "a\\u{7}\n  b".to_owned() });
    let titled = pages(vec![page_of("a", "\u{1b}]0;owned\u{7}", "app")]).unwrap();
    assert_eq!(titled[0].title, "\\u{1b}]0;owned\\u{7}");
}

#[test]
fn pages_have_names_of_their_own_a_title_and_a_place() {
    let many = |count: usize| {
        (0..count).map(|number| page_of(&format!("p-{number}"), "A", "app")).collect()
    };
    assert_eq!(pages(many(16)).unwrap().len(), 16);
    let refused = |said: Vec<Page>| pages(said).unwrap_err().to_string();
    assert_eq!(refused(many(17)), "17 pages, 16 at most are taken");
    let (a, long) = (page_of("a", "A", "platform"), "x".repeat(64));
    for id in ["", "A", "a b", "a/b", "../a", "-a", "a-", "ä", &long] {
        let told = refused(vec![a.clone(), page_of(id, "A", "app")]);
        assert!(told.starts_with("page 2: the id '"), "{told}");
    }
    let twice = refused(vec![a.clone(), page_of("a", "B", "app")]);
    assert_eq!(twice, "page 2: the id 'a' is there twice");
    let told = refused(vec![page_of("a", "A", "everywhere")]);
    assert_eq!(told, "page 1: the place is 'platform' or 'app', not 'everywhere'");
    assert_eq!(refused(vec![page_of("a", "", "app")]), "page 1: its title is empty");
    let told = refused(vec![page_of("a", &"x".repeat(1_001), "app")]);
    assert_eq!(told, "page 1: its title has 1001 bytes, 1000 at most are taken");
}
