//! A key: bytes, and what they hash to.

use super::hash::hash_of;
use super::table::MAX_TEXT_BYTES;
use crate::error::{Error, Result};

/// A key: its bytes, and what they hash to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    bytes: Vec<u8>,
    hash: u64,
}

impl Key {
    /// The key with these bytes.
    ///
    /// # Errors
    /// `InvalidValue` beyond [`MAX_TEXT_BYTES`].
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() > MAX_TEXT_BYTES {
            return Err(Error::value(format!(
                "expected a key of at most {MAX_TEXT_BYTES} bytes, got {}: use a digest of it",
                bytes.len()
            )));
        }
        Ok(Self { hash: hash_of(&bytes), bytes })
    }

    /// What its bytes hash to.
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
