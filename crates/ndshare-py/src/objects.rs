//! Does a piece of memory hold pointers to Python objects?
//!
//! NumPy fills an array of objects with pointers as soon as it has memory for it, so each item that may be an object
//! points to one. A word is one if what it points to begins as an object does: with a type, whose type is `type` or
//! made by it. Numbers do not pass for that by chance. Memory is looked at through `/proc/self/mem`, where a wrong
//! address is an error and no signal.

use std::fs::File;
use std::os::unix::fs::FileExt;

use pyo3::ffi;

/// How much of the memory is looked at: in the first part at every byte, because structured items may be packed, and
/// after that at the addresses of words.
const EVERY_BYTE: usize = 4096;
const EVERY_WORD: usize = 64 << 10;
/// How many words are followed at most.
const PROBES: usize = 4096;
/// No interpreter's objects have a longer head, in bytes.
const LONGEST_HEAD: u64 = 64;

/// Whether there is a pointer to an object among the first items at `address`.
pub(crate) fn has_objects(address: usize, len_bytes: usize) -> bool {
    let mut bytes = vec![0_u8; len_bytes.min(EVERY_WORD)];
    // SAFETY: the caller has a block of so many committed bytes here, and the copy is of no consequence if others
    // write to them meanwhile.
    unsafe { (address as *const u8).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
    let memory = File::open("/proc/self/mem").ok();
    let places = (0..EVERY_BYTE).chain((EVERY_BYTE..EVERY_WORD).step_by(8));
    let words = places.filter_map(|place| Some(u64::from_ne_bytes(*bytes.get(place..)?.first_chunk()?)));
    let mut plausible = words.filter(|&word| is_plausible(word)).take(PROBES);
    // Without a look at what is there, the cautious answer.
    plausible.any(|word| memory.as_ref().is_none_or(|memory| is_object(memory, word)))
}

/// Whether a word could be the address of an object: in the part of the address space that programs have, and aligned.
fn is_plausible(word: u64) -> bool {
    (1 << 16..1 << 47).contains(&word) && word.is_multiple_of(8)
}

fn is_object(memory: &File, word: u64) -> bool {
    let the_type = &raw const ffi::PyType_Type as u64;
    let Some(place) = place_of_type(memory, the_type) else { return true };
    let type_of = |object| word_at(memory, object + place).filter(|&word| is_plausible(word));
    let meta = type_of(word).and_then(type_of);
    meta.is_some_and(|meta| meta == the_type || type_of(meta) == Some(the_type))
}

/// Where in an object the pointer to its type is: the type of `type` is `type`. How long the head of an object is depends on
/// the interpreter, and an extension for several of them is not told.
fn place_of_type(memory: &File, the_type: u64) -> Option<u64> {
    (0..LONGEST_HEAD).step_by(8).find(|place| word_at(memory, the_type + place) == Some(the_type))
}

fn word_at(memory: &File, address: u64) -> Option<u64> {
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, address).ok()?;
    Some(u64::from_ne_bytes(word))
}
