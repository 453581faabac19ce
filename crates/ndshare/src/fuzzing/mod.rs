//! What fuzzers call: a function for each kind of bytes that come from another process or from a file.
//!
//! Each takes any bytes, and says whether they were whole: what parses is printed and parsed again, what is opened is used, and
//! what an array may reach is compared with a plain loop. A panic, a signal or a hang is a fault. `fuzz/` has a target for each
//! of them, and the bytes to begin with; the tests here run those through the same functions.
//!
//! - `plain`: texts and descriptions, which only are parsed. `array`: an array that they describe, in a block.
//! - `heads`: words of the heads of rings, caches, overlays, canvases and named arrays, and of the table of names.
//! - `tables`: words of an arena's control part; files of arenas.
//!
//! A file names only files below it; this one only declares.

mod array;
mod heads;
mod patch;
mod plain;
mod tables;

#[cfg(test)]
mod tests;

pub use array::{layout, token};
pub use heads::{cache_head, kept_head, registry, ring_head};
pub use plain::{element, key, letter, locator, ring_format, uses};
#[cfg(test)]
pub(crate) use tables::words_of_file;
pub use tables::{arena_tables, path_arena};

/// A function that takes any bytes, and says whether they were whole.
pub type Target = fn(&[u8]) -> bool;

/// All targets, by their names.
pub const TARGETS: [(&str, Target); 14] = [
    ("arena_tables", arena_tables),
    ("cache_head", cache_head),
    ("element", element),
    ("kept_head", kept_head),
    ("key", key),
    ("layout", layout),
    ("letter", letter),
    ("locator", locator),
    ("path_arena", path_arena),
    ("registry", registry),
    ("ring_format", ring_format),
    ("ring_head", ring_head),
    ("token", token),
    ("uses", uses),
];
