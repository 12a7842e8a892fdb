//! Bytes of a file → a [`Source`]: its size, its encoding, and the characters no text has.

use std::sync::Arc;

use super::MAX_BYTES;
use crate::diag::{Diagnostic, Diagnostics, Source, Span, codes};

/// The text of a file under the name the user gave it. A UTF-8 byte order mark at its start is taken off.
pub fn source_from_bytes(name: &str, bytes: Vec<u8>, found: &mut Diagnostics) -> Option<Arc<Source>> {
    if bytes.len() > MAX_BYTES {
        let d = Diagnostic::error(codes::TOO_LARGE, "the file is larger than 16 MiB, the limit for a pipeline file")
            .help("use `replicas` for many alike stages, and leave data to files that stages read");
        found.push(d.at(&whole(name, String::new()), ""));
        return None;
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            found.push(not_utf8(name, e.as_bytes(), e.utf8_error().valid_up_to()));
            return None;
        }
    };
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    let source = Arc::new(Source { name: name.to_owned(), text });
    if let Some(at) = source.text.find('\0') {
        let place = Span { source: source.clone(), range: at..at + 1 };
        found.push(
            Diagnostic::error(codes::NUL, "the file has a NUL byte")
                .at(&place, "here")
                .note("neither YAML nor TOML, nor any argument or path of a process, can hold one")
                .help("take it out; if there are many, the file is not a text file"),
        );
        return None;
    }
    Some(source)
}

/// What can be shown of a text that is not UTF-8: all up to the first bad byte's line, bad bytes as `�`.
fn not_utf8(name: &str, bytes: &[u8], bad: usize) -> Diagnostic {
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let line_end = bytes[bad..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| bad + n);
    let shown = String::from_utf8_lossy(&bytes[..line_end]).into_owned();
    let mut place = whole(name, shown);
    place.range = bad..bad + '\u{fffd}'.len_utf8();
    let d = Diagnostic::error(codes::NOT_UTF8, "the file is not UTF-8 text")
        .at(&place, format!("byte 0x{:02x} at offset {bad} begins no character", bytes[bad]));
    if utf16 { d.help("it looks like UTF-16: save it as UTF-8") } else { d.help("save the file as UTF-8") }
}

fn whole(name: &str, text: String) -> Span {
    Span { source: Arc::new(Source { name: name.to_owned(), text }), range: 0..0 }
}
