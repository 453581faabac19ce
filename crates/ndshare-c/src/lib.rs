//! The C functions of ndshare. Each is a few lines over the library: it reads its arguments, calls, and keeps what comes
//! of it under a handle. How to use them is in `docs/c.md`; what each does becomes its comment in `ndshare.h`.
//!
//! - Arguments are read, and results written, through `raw`, which says what a caller owes.
//! - Handles are numbers in the clothes of pointers (`handle`): none is ever followed, so a handle that was freed, or is
//!   another thing's, is an error and nothing else.
//! - Errors are a number and a sentence of this thread (`error`); no panic leaves a function.
//!
//! From below: `error`, then `handle` and `raw`, then `info` and `note`, then the functions: `session`, `array`, `lock`, `ring`,
//! `writer`, `reader`, `names`. A file names only files before it.

// The names of types are those of the header.
#![allow(non_camel_case_types)]
// What a caller owes is the same everywhere, and said once in the header: a pointer is null or leads to what it says.
#![allow(clippy::missing_safety_doc)]

pub mod array;
pub mod error;
mod handle;
pub mod info;
pub mod lock;
pub mod names;
pub mod note;
mod raw;
pub mod reader;
pub mod ring;
pub mod session;
pub mod writer;
