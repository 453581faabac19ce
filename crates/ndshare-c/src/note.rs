//! Notes as C has them: a kind, an address and a length, kept beside the frame that they go with.

use crate::raw::{items, the};
use ndshare::ring::Note;
use ndshare::{Error, Kind, Result};
use std::ffi::c_void;

/// The kind of a note that is none.
pub const NDS_NO_NOTE: u32 = 0;
/// The kind of a text, in UTF-8.
pub const NDS_NOTE_TEXT: u32 = 1;
/// The kind of a value as JSON, in UTF-8. Nobody has looked whether it is one.
pub const NDS_NOTE_JSON: u32 = 2;
/// The kind of bytes.
pub const NDS_NOTE_BYTES: u32 = 3;

/// Text, JSON or bytes of any length beside a frame.
#[repr(C)]
pub struct nds_note {
    /// NDS_NOTE_TEXT, NDS_NOTE_JSON, NDS_NOTE_BYTES; or NDS_NO_NOTE, where there is none.
    pub kind: u32,
    /// Its bytes; NULL where there is none. Behind those of a frame stands a zero byte, which does not count.
    pub data: *const c_void,
    /// How many they are.
    pub len: usize,
}

/// A note that stays where it is: what it is, and its bytes with a zero behind them.
pub(crate) struct KeptNote {
    kind: u32,
    bytes: Vec<u8>,
}

impl KeptNote {
    /// What the library read.
    pub(crate) fn of(note: Option<Note<'static>>) -> Self {
        let (kind, mut bytes) = match note {
            None => return Self { kind: NDS_NO_NOTE, bytes: Vec::new() },
            Some(Note::Text(text)) => (NDS_NOTE_TEXT, text.into_owned().into_bytes()),
            Some(Note::Json(text)) => (NDS_NOTE_JSON, text.into_owned().into_bytes()),
            Some(Note::Bytes(bytes)) => (NDS_NOTE_BYTES, bytes.into_owned()),
        };
        bytes.push(0);
        Self { kind, bytes }
    }

    /// The same for C.
    pub(crate) fn info(&self) -> nds_note {
        let data = if self.bytes.is_empty() { std::ptr::null() } else { self.bytes.as_ptr().cast() };
        nds_note { kind: self.kind, data, len: self.bytes.len().saturating_sub(1) }
    }
}

/// The note that a caller gives; none for null, and for NDS_NO_NOTE.
///
/// # Errors
/// `InvalidValue` for a kind that is none, null in the place of bytes, and text or JSON that is no UTF-8.
///
/// # Safety
/// `note` is null, or leads to a note whose `data` is null or leads to `len` bytes, and all of it stays as it is for `'a`.
pub(crate) unsafe fn note_or_none<'a>(note: *const nds_note) -> Result<Option<Note<'a>>> {
    if note.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller says.
    let (kind, bytes) = unsafe {
        let note = the("a note", note)?;
        (note.kind, items("a note", note.data.cast::<u8>(), note.len)?)
    };
    let text = || std::str::from_utf8(bytes).map_err(|error| invalid(format!("expected a note in UTF-8: {error}")));
    match kind {
        NDS_NO_NOTE => Ok(None),
        NDS_NOTE_TEXT => text().map(Note::text).map(Some),
        NDS_NOTE_JSON => text().map(Note::json).map(Some),
        NDS_NOTE_BYTES => Ok(Some(Note::bytes(bytes))),
        other => Err(invalid(format!("expected a note of text (1), JSON (2) or bytes (3), got one of kind {other}"))),
    }
}

fn invalid(text: String) -> Error {
    Error::new(Kind::InvalidValue, text)
}
