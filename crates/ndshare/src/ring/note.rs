//! What goes beside the items of a frame: its view, which says how they lie, and its note. What is short stands in the
//! frame's entry; what is longer stands in the frame's block behind the items, in its tail: the view first.
//!
//! A reader reads lengths and places once, with the entry; whether they lie inside is asked where bytes are read.

use super::table::{EntryWords, VIEW_BYTES};
use crate::arena::Hold;
use crate::array::{Array, Description};
use crate::element::{Element, Number};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::prim::{Ordering::Relaxed, load_bytes, read, set, store_bytes};
use std::borrow::Cow;

/// The most bytes that a frame says of its layout.
pub const MOST_VIEW_BYTES: usize = 1 << 16;

const TEXT: u64 = 1;
const JSON: u64 = 2;
const BYTES: u64 = 3;
/// Set in the word of a note that stands in the entry.
const IN_ENTRY: u64 = 8;
const KIND_BITS: u64 = 7;
const LEN_SHIFT: u32 = 8;

/// Text, JSON or bytes of any length beside a frame.
///
/// ```
/// use ndshare::ring::{Content, Format, Mode, Note, RingOptions, Start};
/// use ndshare::{Deadline, Number, Ring};
///
/// let forever = Deadline::never();
/// let ring = Ring::new(ndshare::session()?, Format::new(&[4], Number::U8), RingOptions::slots(4), &forever)?;
/// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
///
/// let note = Note::json(r#"{"stage": [1.5, 2.0]}"#);
/// let mut writing = ring.begin_with_note(4, note.as_bytes().len() as u64, &forever)?;
/// writing.array()?.fill(7_u8)?;
/// writing.publish(Content { note: Some(&note), ..Content::default() }, &forever)?;
/// assert_eq!(reader.get(&forever)?.note()?, Some(note));
/// # Ok::<(), ndshare::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A value as JSON. Nobody has looked whether it is one.
    Json(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Note<'a> {
    /// A text.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// A value that was written as JSON.
    pub fn json(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Json(text.into())
    }

    /// Bytes.
    pub fn bytes(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// Its bytes; those of a text are UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) | Self::Json(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn kind(&self) -> u64 {
        match self {
            Self::Text(_) => TEXT,
            Self::Json(_) => JSON,
            Self::Bytes(_) => BYTES,
        }
    }

    fn of(kind: u64, bytes: Vec<u8>) -> Result<Note<'static>> {
        let text = |bytes| {
            String::from_utf8(bytes)
                .map_err(|error| Error::value(format!("expected a note in UTF-8, got other bytes: {error}")))
        };
        match kind {
            TEXT => text(bytes).map(Note::text),
            JSON => text(bytes).map(Note::json),
            BYTES => Ok(Note::bytes(bytes)),
            _ => Err(Error::value(format!("expected a note that is text, JSON or bytes, got one of kind {kind}"))),
        }
    }
}

/// What a writer says beside the items, and where each part of it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside<'a> {
    pub view: &'a [u8],
    pub note: Option<&'a Note<'a>>,
}

impl Beside<'_> {
    fn is_view_in_entry(&self) -> bool {
        self.view.len() <= VIEW_BYTES
    }

    /// The word of the entry's view from which on there is room for a note.
    fn note_word_at(&self) -> usize {
        if self.is_view_in_entry() { self.view.len().div_ceil(8) } else { 0 }
    }

    fn is_note_in_entry(&self, note: &Note<'_>) -> bool {
        note.as_bytes().len() <= VIEW_BYTES - self.note_word_at() * 8
    }

    /// What stands in the block behind the items.
    fn tail(&self) -> [&[u8]; 2] {
        let view = if self.is_view_in_entry() { &[] } else { self.view };
        let note = self.note.filter(|note| !self.is_note_in_entry(note));
        [view, note.map_or(&[], Note::as_bytes)]
    }

    /// Bytes of that.
    #[inline]
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail().iter().map(|part| part.len()).sum()
    }

    /// Writes the tail into a block, behind the byte `end`; returns where it begins.
    ///
    /// # Errors
    /// `InvalidValue` when the block has no room for it.
    #[inline]
    pub(super) fn write_tail(&self, block: &Hold, end: u64) -> Result<u64> {
        if self.tail_bytes() == 0 { Ok(0) } else { self.write_long_tail(block, tail_at(end)) }
    }

    fn write_long_tail(&self, block: &Hold, at: u64) -> Result<u64> {
        let room = (block.len_bytes() as u64).saturating_sub(at);
        let need = self.tail_bytes() as u64;
        if need > room {
            return Err(Error::value(format!(
                "expected a frame that has room for {need} bytes of note and description behind its items, got one with \
                 {room}: begin it with room for its note"
            )));
        }
        let [view, note] = self.tail();
        let mut next = at;
        for part in [view, note].into_iter().filter(|part| !part.is_empty()) {
            bytes_in(block, next, part.len(), false)?.copy_from_slice(part)?;
            next += part.len() as u64;
        }
        Ok(at)
    }

    /// Writes what stands in the entry. The caller has it marked busy.
    #[inline]
    pub(super) fn write_entry(&self, entry: &EntryWords<'_>, tail_at: u64) {
        entry.view_len.store(self.view.len() as u64, Relaxed);
        if self.is_view_in_entry() {
            store_bytes(entry.view, self.view);
        }
        let word = self.note.map_or(0, |note| self.write_note(entry, note));
        entry.note.store(word, Relaxed);
        set(entry.tail, tail_at);
    }

    /// Writes a note that is short enough; returns the word that says what and where it is.
    fn write_note(&self, entry: &EntryWords<'_>, note: &Note<'_>) -> u64 {
        let is_here = self.is_note_in_entry(note);
        if is_here {
            store_bytes(&entry.view[self.note_word_at()..], note.as_bytes());
        }
        let place = if is_here { IN_ENTRY } else { 0 };
        note.kind() | place | (note.as_bytes().len() as u64) << LEN_SHIFT
    }
}

/// Where the tail begins of a frame whose items end at a byte.
pub(super) fn tail_at(end: u64) -> u64 {
    end.saturating_add(7) & !7
}

/// Bytes of a block, as an array.
fn bytes_in(block: &Hold, at: u64, len: usize, is_readonly: bool) -> Result<Array> {
    let (layout, _) = Layout::contiguous(&[len], 1)?;
    let description = Description { layout, element: Some(Element::of(Number::U8)) };
    Array::of_parts(block.clone(), at, description, is_readonly)
}

/// The bytes of a tail, for who has the block.
///
/// # Errors
/// `InvalidValue` when they don't lie inside.
pub(super) fn read_tail(block: &Hold, at: u64, len: usize) -> Result<Vec<u8>> {
    bytes_in(block, at, len, true)?.to_vec()
}

/// What an entry says beside the items, read once.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Empty for a view that stands in the tail, until it was [read](Self::read_view).
    pub view: Vec<u8>,
    view_len: usize,
    note: u64,
    short_note: Vec<u8>,
    tail_at: u64,
}

impl Told {
    /// What an entry says. The caller sees to it that it is read whole.
    #[inline]
    pub(super) fn of(entry: &EntryWords<'_>) -> Self {
        let view_len = read(entry.view_len, Relaxed).capped(MOST_VIEW_BYTES as u64 + 1) as usize;
        // Each part of it is checked where it is used.
        let whole = |word| read(word, Relaxed).capped(u64::MAX);
        let note = whole(entry.note);
        // It stands in another line of the entry.
        let tail_at = if view_len == 0 && note == 0 { 0 } else { whole(entry.tail) };
        let is_short = view_len <= VIEW_BYTES;
        let view = if is_short { load_bytes(entry.view, view_len) } else { Vec::new() };
        let mut told = Self { view, view_len, note, short_note: Vec::new(), tail_at };
        if note & IN_ENTRY != 0 {
            let words = &entry.view[if is_short { view_len.div_ceil(8) } else { 0 }..];
            told.short_note = load_bytes(words, told.note_len().min(words.len() * 8));
        }
        told
    }

    /// Whether the writer of an entry said nothing beside the items.
    #[inline]
    pub(super) fn is_silent(entry: &EntryWords<'_>) -> bool {
        // RAW: only compared.
        entry.view_len.load(Relaxed) == 0 && entry.note.load(Relaxed) == 0
    }

    /// Bytes of the note, if there is one.
    pub(super) fn note_bytes(&self) -> Option<usize> {
        (self.note & KIND_BITS != 0).then(|| self.note_len())
    }

    fn note_len(&self) -> usize {
        usize::try_from(self.note >> LEN_SHIFT).unwrap_or(usize::MAX)
    }

    /// Reads a view that stands in the tail, by a function that has the block. One that cannot be read is a view that
    /// describes nothing, as other nonsense is.
    #[inline]
    pub(super) fn read_view(&mut self, read: impl FnOnce(u64, usize) -> Result<Vec<u8>>) {
        if self.view_len > VIEW_BYTES {
            let view = if self.view_len > MOST_VIEW_BYTES { None } else { read(self.tail_at, self.view_len).ok() };
            self.view = view.unwrap_or_else(|| vec![u8::MAX]);
        }
    }

    /// Where in the block the note is, if it is there.
    pub(super) fn note_in_tail(&self) -> Option<(u64, usize)> {
        let is_there = self.note & KIND_BITS != 0 && self.note & IN_ENTRY == 0;
        let before = if self.view_len > VIEW_BYTES { self.view_len as u64 } else { 0 };
        is_there.then(|| (self.tail_at.saturating_add(before), self.note_len()))
    }

    /// The note; `read` is for one that stands in the tail.
    ///
    /// # Errors
    /// `InvalidValue` for a note that does not lie inside, or is none.
    pub(super) fn note(&self, read: impl FnOnce(u64, usize) -> Result<Vec<u8>>) -> Result<Option<Note<'static>>> {
        let kind = self.note & KIND_BITS;
        if kind == 0 {
            return Ok(None);
        }
        let bytes = match self.note_in_tail() {
            Some((at, len)) => read(at, len)?,
            None if self.short_note.len() == self.note_len() => self.short_note.clone(),
            None => {
                let len = self.note_len();
                return Err(Error::value(format!("expected a note that fits into its entry, got one of {len} bytes")));
            }
        };
        Note::of(kind, bytes).map(Some)
    }
}
