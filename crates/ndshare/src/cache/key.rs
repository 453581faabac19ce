//! A key: its bytes, and what they hash to.
//!
//! Keys are compared as bytes. `key_form` says which bytes a thing has, `key_value` which thing bytes are.

use super::hash::hash_of;
use super::table::MAX_TEXT_BYTES;
use crate::error::{Error, Result};
use std::fmt;

/// Room for the bytes of the keys that most programs use. They need no memory of their own.
const SHORT_BYTES: usize = 64;

/// Bytes that are in place as long as they are few.
#[derive(Clone)]
pub(super) struct KeyBytes {
    short: [u8; SHORT_BYTES],
    len: usize,
    /// All bytes, once they are more than `short` has room for.
    long: Vec<u8>,
}

impl KeyBytes {
    pub(super) const fn new() -> Self {
        Self { short: [0; SHORT_BYTES], len: 0, long: Vec::new() }
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self.short.get_mut(self.len..self.len + bytes.len()) {
            Some(room) if self.long.is_empty() => room.copy_from_slice(bytes),
            _ => self.push_long(bytes),
        }
        self.len += bytes.len();
    }

    #[cold]
    fn push_long(&mut self, bytes: &[u8]) {
        if self.long.is_empty() {
            self.long.extend(&self.short[..self.len]);
        }
        self.long.extend(bytes);
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.len] } else { &self.long }
    }
}

impl Extend<u8> for KeyBytes {
    #[inline]
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        bytes.into_iter().for_each(|byte| self.push(&[byte]));
    }
}

/// A key of a cache: what a value is stored under. Two keys are equal when what they were made of is; see
/// [`ToKey`](super::ToKey).
///
/// ```
/// use ndshare::cache::Key;
///
/// # fn main() -> ndshare::Result<()> {
/// let key = Key::of(&("tile", 3, 4))?;
/// assert_eq!(key, Key::of(&("tile", 3.0, 4_u8))?, "numbers are one key where they are equal");
/// assert_ne!(key, Key::of(&("tile", "3", 4))?);
/// assert_eq!(key.to_string(), r#"("tile", 3, 4)"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Key {
    bytes: KeyBytes,
    hash: u64,
}

impl Key {
    /// The key with these bytes.
    ///
    /// # Errors
    /// `InvalidValue` beyond [`MAX_TEXT_BYTES`].
    #[inline]
    pub(super) fn new(bytes: KeyBytes) -> Result<Self> {
        if bytes.as_slice().len() > MAX_TEXT_BYTES {
            return Err(too_long(bytes.as_slice().len()));
        }
        Ok(Self { hash: hash_of(bytes.as_slice()), bytes })
    }

    /// As [`Self::new`], of bytes that lie elsewhere.
    pub(super) fn of_bytes(bytes: &[u8]) -> Result<Self> {
        let mut own = KeyBytes::new();
        own.push(bytes);
        Self::new(own)
    }

    /// What its bytes hash to.
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Its bytes: the same in every process, whatever language it is written in.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

#[cold]
fn too_long(len: usize) -> Error {
    Error::value(format!("expected a key of at most {MAX_TEXT_BYTES} bytes, got {len}: use a digest of it"))
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Key {:?}>", String::from_utf8_lossy(self.bytes()))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A look-up begins with its key: an allocation there would be one for each hit.
    #[test]
    fn usual_keys_take_no_memory_of_their_own() {
        let text = "x".repeat(SHORT_BYTES - 2);
        for key in
            [Key::of(&("tile", 3, 4, i64::MIN)), Key::of(text.as_str()), Key::of(&(1, ("a", b"b".to_vec()), 0.5))]
        {
            assert_eq!(key.unwrap().bytes.long.capacity(), 0);
        }
        let longer = Key::of(format!("{text}x").as_str()).unwrap();
        assert_eq!(longer.bytes.long, longer.bytes());
    }
}
