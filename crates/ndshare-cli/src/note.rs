//! Notes of frames as JSON and as a line.

use ndshare::ring::Note;
use serde_json::{Value, json};

use crate::text::printable;

/// A line has so many characters of a note at the most.
const SHOWN: usize = 60;

/// What a note is.
pub(crate) fn kind(note: &Note<'_>) -> &'static str {
    match note {
        Note::Text(_) => "text",
        Note::Json(_) => "json",
        Note::Bytes(_) => "bytes",
    }
}

/// What it says: a text, the value of JSON, and bytes as two hexadecimal digits each. JSON that is none is a text.
pub(crate) fn value(note: &Note<'_>) -> Value {
    match note {
        Note::Text(text) => json!(text),
        Note::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Note::Bytes(bytes) => json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// The beginning of what it says, fit for a terminal; nothing of bytes.
pub(crate) fn beginning(note: &Note<'_>) -> String {
    let (Note::Text(text) | Note::Json(text)) = note else { return String::new() };
    let end = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    printable(&text.chars().take(SHOWN).collect::<String>()) + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_json_and_the_beginning_of_a_line() {
        let notes =
            [Note::text("a\u{1b}b"), Note::json("{\"a\": [1]}"), Note::json("{"), Note::bytes([1, 255].to_vec())];
        assert_eq!(notes.each_ref().map(kind), ["text", "json", "json", "bytes"]);
        assert_eq!(notes.each_ref().map(value), [json!("a\u{1b}b"), json!({"a": [1]}), json!("{"), json!("01ff")]);
        assert_eq!(notes.each_ref().map(beginning), ["a?b", "{\"a\": [1]}", "{", ""]);
        assert_eq!(beginning(&Note::text("é".repeat(61))), "é".repeat(60) + "…");
    }
}
