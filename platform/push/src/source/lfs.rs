//! Files that are not there: what `git lfs` commits in their place.

/// Longest pointer that git-lfs reads, bytes (git-lfs, docs/spec.md).
pub(super) const POINTER_BYTES_MAX: u64 = 1024;

/// Whether a file is a pointer: `version …`, `oid sha256:…` and `size …` lines, in this order.
pub(super) fn is_pointer(content: &[u8]) -> bool {
    const VERSIONS: [&[u8]; 2] =
        [b"version https://git-lfs.github.com/spec/v", b"version https://hawser.github.com/spec/v"];
    if !VERSIONS.iter().any(|version| content.starts_with(version)) {
        return false;
    }
    let lines: Vec<&[u8]> = content.split(|b| *b == b'\n').collect();
    let oid = lines.iter().position(|line| line.starts_with(b"oid sha256:"));
    let size = lines.iter().position(|line| line.starts_with(b"size "));
    matches!((oid, size), (Some(oid), Some(size)) if oid < size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_known_and_a_text_about_pointers_is_not() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\n\
            oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n\
            size 12345\n";
        assert!(is_pointer(pointer));
        assert!(!is_pointer(
            b"version https://git-lfs.github.com/spec/v1 is what they begin with\n"
        ));
        assert!(!is_pointer(
            b"# version https://git-lfs.github.com/spec/v1\noid sha256:\nsize 1\n"
        ));
    }
}
