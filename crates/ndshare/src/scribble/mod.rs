//! A peer that writes over shared memory while others use it: all kinds of objects, all kinds of words, all that can be asked.
//!
//! Whatever stands in whatever word, who uses the memory gets a result or a typed error: no panic, no signal, no hang, and no
//! access outside of the arena, beside which lie pages that nobody may touch.
//!
//! - `tally`: what was asked, how it ended, and how long it took. `world`: an arena with one object of each kind, and all its
//!   words by what they are a part of. `victim`: everything that can be asked of it. `tests`: each word in turn, and words at
//!   random by another thread or another process while all this goes on.
//!
//! `make scribble` runs it for longer: `NDSHARE_SCRIBBLE_SECONDS` is how long each test with a live peer takes,
//! `NDSHARE_SCRIBBLE_EVERY` of how many words one is written over in turn (1: every single one), `NDSHARE_SCRIBBLE_SEED` another
//! order.

mod tally;
mod tests;
mod victim;
mod world;
