//! Puts the manifest into a component, as the custom section that platforms read it from.

/// Name of the section of an extension.
pub(crate) const EXTENSION: &str = "berth:extension";
/// Name of the section of a buildpack.
pub(crate) const BUILDPACK: &str = "berth:buildpack";
/// Magic number and version of a component.
const PREAMBLE_BYTES: usize = 8;

/// The component with the text as its last section, and no other one of the name, which has 127
/// bytes at most. Bytes that are no component come back with the section behind them: whoever looks
/// at them says so.
pub(crate) fn with_manifest(component: &[u8], name: &str, text: &str) -> Vec<u8> {
    let mut whole = without(component, name);
    let mut content = Vec::with_capacity(text.len() + name.len() + 5);
    leb128(name.len(), &mut content);
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(text.as_bytes());
    whole.push(0);
    leb128(content.len(), &mut whole);
    whole.extend_from_slice(&content);
    whole
}

/// The component without sections of the name, which would be older ones.
fn without(component: &[u8], name: &str) -> Vec<u8> {
    let mut kept = component[..component.len().min(PREAMBLE_BYTES)].to_vec();
    let mut rest = &component[kept.len()..];
    while let Some((id, body_at, end)) = section(rest) {
        let body = &rest[body_at..end];
        let named = usize::from(body.first().copied().unwrap_or(0)) == name.len()
            && body[1..].starts_with(name.as_bytes());
        if !(id == 0 && named) {
            kept.extend_from_slice(&rest[..end]);
        }
        rest = &rest[end..];
    }
    kept.extend_from_slice(rest);
    kept
}

/// Id of the first section, where its body begins and where it ends.
fn section(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let id = *bytes.first()?;
    let mut length = 0_usize;
    for index in 0..5 {
        let byte = *bytes.get(1 + index)?;
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let begin = 2 + index;
            let end = begin.checked_add(length)?;
            return (end <= bytes.len() && end > begin).then_some((id, begin, end));
        }
    }
    None
}

fn leb128(mut value: usize, into: &mut Vec<u8>) {
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            into.push(byte);
            return;
        }
        into.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_manifest_takes_the_place_of_an_older_one() {
        let mut other = EMPTY.to_vec();
        other.extend_from_slice(b"\0\x05\x04name");
        let long = "x".repeat(300);
        let once = with_manifest(&other, EXTENSION, &long);
        assert!(once.starts_with(&other));
        assert_eq!(with_manifest(&once, EXTENSION, &long), once);
        let changed = with_manifest(&once, EXTENSION, "short");
        assert!(changed.starts_with(&other) && changed.ends_with(b"\x0fberth:extensionshort"));
        assert_eq!(changed.len(), other.len() + 2 + 1 + EXTENSION.len() + 5);
    }

    #[test]
    fn bytes_that_are_no_component_are_left_as_they_are() {
        for bytes in [&b""[..], b"\0as", b"\0asm\x0d\0\x01\0\x00\xff\xff\xff\xff\x7fxx"] {
            assert!(with_manifest(bytes, BUILDPACK, "t").starts_with(bytes), "{bytes:?}");
        }
    }
}
