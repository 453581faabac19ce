//! One error type with kinds. Every message says what was expected, what was found, and what to do next.

use std::fmt;

/// What went wrong, coarse enough to decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The arena, or a limit under it, has no room for the request.
    ArenaFull,
    /// The block that a reference names is gone.
    Stale,
    /// This process cannot take part in the arena: every place is taken, or something on the way there failed.
    Attach,
    /// Nobody that this process may look into has the arena that a reference names, or another version made it.
    Unreachable,
    /// The arena that a reference names is another user's.
    Foreign,
    /// A wait reached its timeout.
    Timeout,
    /// A wait was ended by the caller's own check (a signal, in Python).
    Interrupted,
    /// The holder of a lock died in it, and nobody has recovered it since.
    OwnerDied,
    /// No frame came before the timeout.
    Empty,
    /// No frame could be written before the timeout.
    Full,
    /// The ring was closed, and is drained.
    Closed,
    /// The last writer of a ring died without closing it.
    WriterDied,
    /// Another process or thread was loading a key of a cache, and failed.
    LoadFailed,
    /// A call that can't work in this state: a lock entered twice, or freed by somebody who does not have it.
    Misuse,
    /// The arena's tables contradict themselves; it is not used any more.
    Poisoned,
    /// An argument has a value that cannot work.
    InvalidValue,
    /// An argument has a type that cannot work.
    InvalidType,
    /// The operating system refused something that has no kind of its own.
    Os,
}

/// An error with its kind and one full sentence or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind`; `message` says expected, got, and what to do next.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The kind to decide by.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn attach(message: impl Into<String>) -> Self {
        Self::new(Kind::Attach, message)
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unreachable, message)
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidValue, message)
    }

    pub(crate) fn poisoned(what: &str) -> Self {
        Self::new(
            Kind::Poisoned,
            format!(
                "the arena's tables contradict themselves ({what}): something wrote over its control memory; \
                 save what you need and start all participants anew"
            ),
        )
    }

    /// The last operating system error of this thread, during `what`.
    pub(crate) fn last_os(what: &str) -> Self {
        let error = std::io::Error::last_os_error();
        Self::new(Kind::Os, format!("{what} failed: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
