//! GELF 1.1: a JSON object per message, and its chunks in datagrams.

use serde_json::{Map, Value, json};

use super::Entry;
use super::format::severity;

/// Bytes of a datagram that passes the usual networks in one piece.
const CHUNK_BYTES: usize = 1420;
/// Magic bytes, message id, number and count.
const CHUNK_HEADER_BYTES: usize = 12;
/// Most chunks of a message.
const CHUNKS_MAX: usize = 128;
/// The longest message fits the chunks that there may be.
const _: () = assert!(super::FRAME_BYTES_MAX <= CHUNKS_MAX * (CHUNK_BYTES - CHUNK_HEADER_BYTES));

/// A message. An empty line is written `-`, as receivers refuse a message without a text.
pub fn gelf(entry: &Entry, host: &str) -> Vec<u8> {
    let text = if entry.line.trim().is_empty() { "-" } else { &entry.line };
    // Milliseconds of this era fit a double exactly, and are written with three digits at most.
    let seconds = (entry.at_ns / 1_000_000) as f64 / 1000.0;
    let mut object = Map::new();
    for (name, value) in &entry.extra {
        if let Some(name) = field(name) {
            object.insert(name, value.as_str().into());
        }
    }
    for (name, value) in [
        ("version", Value::from("1.1")),
        ("host", if host.is_empty() { "-" } else { host }.into()),
        ("short_message", text.into()),
        ("timestamp", json!(seconds)),
        ("level", severity(&entry.stream).into()),
        ("_app", entry.app.as_str().into()),
        ("_process", entry.process.as_str().into()),
        ("_instance", entry.instance.as_str().into()),
        ("_stream", entry.stream.as_str().into()),
        ("_seq", entry.seq.into()),
    ] {
        object.insert(name.to_owned(), value);
    }
    Value::Object(object).to_string().into_bytes()
}

/// The name of an additional field: `_` and word characters, dots and hyphens; not `_id`.
fn field(name: &str) -> Option<String> {
    let clean: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' })
        .take(100)
        .collect();
    (!clean.is_empty() && clean != "id").then(|| format!("_{clean}"))
}

/// The datagrams of a message: itself, or its chunks. `id` is to differ from that of every other
/// message that is under way.
pub fn gelf_datagrams(message: &[u8], id: [u8; 8]) -> Vec<Vec<u8>> {
    if message.len() <= CHUNK_BYTES {
        return vec![message.to_vec()];
    }
    let data = CHUNK_BYTES - CHUNK_HEADER_BYTES;
    let parts: Vec<&[u8]> = message.chunks(data).take(CHUNKS_MAX).collect();
    let count = u8::try_from(parts.len()).unwrap_or(u8::MAX);
    (0_u8..)
        .zip(parts)
        .map(|(number, part)| {
            let mut chunk = vec![0x1e, 0x0f];
            chunk.extend_from_slice(&id);
            chunk.extend_from_slice(&[number, count]);
            chunk.extend_from_slice(part);
            chunk
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::entry;
    use super::*;

    #[test]
    fn a_line_is_a_message_of_gelf() {
        let mut line = entry("hello \"wörld\"");
        line.extra = vec![("id".into(), "x".into()), ("a b".into(), "1".into())];
        let bytes = gelf(&line, "one");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\"timestamp\":1795176123.456"), "{text}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["version"], "1.1");
        assert_eq!(json["host"], "one");
        assert_eq!(json["short_message"], "hello \"wörld\"");
        assert_eq!(json["_app"], "shop");
        assert_eq!(json["_a_b"], "1");
        assert!(json.get("_id").is_none());
        let empty: Value = serde_json::from_slice(&gelf(&entry(" "), "")).unwrap();
        assert_eq!((&empty["short_message"], &empty["host"]), (&json!("-"), &json!("-")));
    }

    #[test]
    fn a_long_message_goes_in_chunks_that_join_to_the_whole() {
        let message: Vec<u8> = (0..10_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let chunks = gelf_datagrams(&message, *b"12345678");
        assert_eq!(chunks.len(), 8);
        assert!(chunks.iter().all(|chunk| chunk.len() <= 1420));
        for (number, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk[..2], [0x1e, 0x0f]);
            assert_eq!(&chunk[2..10], b"12345678");
            assert_eq!((usize::from(chunk[10]), chunk[11]), (number, 8));
        }
        let joined: Vec<u8> = chunks.iter().flat_map(|chunk| chunk[12..].to_vec()).collect();
        assert_eq!(joined, message);
        assert_eq!(gelf_datagrams(b"short", [0; 8]), [b"short"]);
    }
}
