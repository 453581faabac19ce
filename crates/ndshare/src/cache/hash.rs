//! Hashes that are the same in every process and every build: of keys, and the seals of entries.

use crate::arena::BlockId;

/// A hash of bytes that is the same in every process and every build.
///
/// Each word is multiplied in as by Fx; the end is the finalizer of MurmurHash3 (Appleby, public domain).
#[inline]
pub(super) fn hash_of(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// What the words of a live entry come to. An entry whose words give another number was written over.
#[inline]
pub(super) fn seal_of(hash: u64, block: BlockId, offset: u64, stored: u64, view: &[u8]) -> u64 {
    [block.to_word(), offset, stored, hash_of(view)].into_iter().fold(hash, seal_word)
}

#[inline]
pub(super) fn seal_word(seal: u64, word: u64) -> u64 {
    let mixed = (seal.rotate_left(23) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    mixed ^ mixed >> 32
}
