//! One error type: what went wrong as data, and as a sentence that says expected, got, and what to do next.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

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
    /// Something was to be written or made in an arena that this process joined to read only.
    ReadOnly,
    /// Another user offers it, and does not let this user read it.
    Refused,
    /// The arena's tables contradict themselves; it is not used any more.
    Poisoned,
    /// An argument has a value that cannot work.
    InvalidValue,
    /// An argument has a type that cannot work.
    InvalidType,
    /// What was opened is something else, or of another version: a cache as a ring, an array as a cache.
    WrongKind,
    /// The operating system refused something that has no kind of its own.
    Os,
}

/// What went wrong. It prints as one full sentence or more; a variant's data are the numbers and processes behind them.
///
/// [`Error::kind`] is the variant alone. Two errors are equal when they are of one kind and say the same.
///
/// ```
/// use ndshare::arena::Options;
/// use ndshare::{Arena, Array, Error, Number};
///
/// # fn main() -> ndshare::Result<()> {
/// let arena = Arena::create(&Options { budget_bytes: Some(1 << 20), ..Options::default() })?;
/// let image = Array::zeros(&arena, &[512, 1024], Number::U8)?;
/// match Array::zeros(&arena, &[768, 1024], Number::U8) {
///     Err(Error::ArenaFull(full)) => {
///         assert_eq!((full.needed_bytes, full.limit_bytes), (Some(768 << 10), Some(1 << 20)));
///         assert_eq!(full.free_bytes, Some(512 << 10));
///         let largest = &full.holders[0];
///         assert_eq!((largest.pid, largest.bytes), (std::process::id(), 512 << 10));
///     }
///     other => panic!("expected no room, got {other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The arena, or a limit under it, has no room for the request.
    ArenaFull(Box<ArenaFull>),
    /// The block that a reference names is gone.
    Stale(Box<Stale>),
    /// This process cannot take part in the arena: every place is taken, or something on the way there failed.
    Attach(Box<Attach>),
    /// Nobody that this process may look into has the arena that a reference names, or another version made it.
    Unreachable(Box<Unreachable>),
    /// The arena that a reference names is another user's.
    Foreign(Box<Foreign>),
    /// A wait reached its timeout.
    Timeout(Box<Timeout>),
    /// A wait was ended by the caller's own check (a signal, in Python).
    Interrupted(Box<str>),
    /// The holder of a lock died in it, and nobody has recovered it since.
    OwnerDied(Box<OwnerDied>),
    /// No frame came before the timeout.
    Empty(Box<Empty>),
    /// No frame could be written before the timeout.
    Full(Box<Full>),
    /// The ring was closed, and is drained.
    Closed(Box<str>),
    /// The last writer of a ring died without closing it.
    WriterDied(Box<WriterDied>),
    /// Another process or thread was loading a key of a cache, and failed.
    LoadFailed(Box<LoadFailed>),
    /// A call that can't work in this state: a lock entered twice, or freed by somebody who does not have it.
    Misuse(Box<str>),
    /// Something was to be written or made in an arena that this process joined to read only.
    ReadOnly(Box<str>),
    /// Another user offers it, and does not let this user read it.
    Refused(Box<str>),
    /// The arena's tables contradict themselves; it is not used any more.
    Poisoned(Box<Poisoned>),
    /// An argument has a value that cannot work.
    InvalidValue(Box<str>),
    /// An argument has a type that cannot work.
    InvalidType(Box<str>),
    /// What was opened is something else, or of another version: a cache as a ring, an array as a cache.
    WrongKind(Box<WrongKind>),
    /// The operating system refused something that has no kind of its own.
    Os(Box<Os>),
}

/// The data of some variants, each with its sentence.
macro_rules! details {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            pub(crate) message: Box<str>,
        }

        impl $name {
            /// Nothing but the sentence.
            pub(crate) fn saying(message: impl Into<String>) -> Self {
                Self { message: message.into().into_boxed_str(), ..Self::default() }
            }
        }

        impl From<$name> for Error {
            fn from(details: $name) -> Self {
                Self::$name(Box::new(details))
            }
        }
    )*};
}

details! {
    /// Who needed how much, and what had how much left. What is none is not counted in bytes, or not known.
    ArenaFull {
        /// Bytes that were asked for.
        needed_bytes: Option<u64>,
        /// Bytes that the limit leaves.
        free_bytes: Option<u64>,
        /// The limit that has no room.
        limit_bytes: Option<u64>,
        /// What set the limit, named so that a person finds it; empty where that is not known.
        limit: String,
        /// The processes that take part in the arena, with what they hold, the largest first.
        holders: Vec<Holder>,
    }
    /// Which block is gone.
    Stale {
        /// Its index in the arena's table.
        index: Option<u32>,
        /// Its generation: how often the index was given to a block.
        generation: Option<u32>,
    }
    /// Why this process cannot take part.
    Attach {
        /// What the system said, where that was the cause.
        source: Option<Arc<io::Error>>,
    }
    /// Whose arena is out of reach.
    Unreachable {
        /// The process that named it.
        pid: Option<u32>,
    }
    /// Whose the arena is.
    Foreign {
        /// The process that named it.
        pid: Option<u32>,
        /// The user that it belongs to.
        uid: Option<u32>,
    }
    /// What was waited for, how long, and who has it.
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long; none where that was not measured.
        waited: Option<Duration>,
        /// The processes that have it, as far as they are known.
        on: Vec<Process>,
    }
    /// How long a reader waited, and for whom.
    Empty {
        /// For how long; none where that was not measured.
        waited: Option<Duration>,
        /// How many writers there are.
        writers: u64,
    }
    /// How long a writer waited, and for whom.
    Full {
        /// For how long; none where that was not measured.
        waited: Option<Duration>,
        /// The readers that keep the ring full.
        behind: Vec<Behind>,
        /// The processes that have a lock which it waited for.
        on: Vec<Process>,
    }
    /// Who died in the lock.
    OwnerDied {
        /// The process; none where that is not known any more.
        pid: Option<u32>,
    }
    /// Which writer died.
    WriterDied {
        /// The process, the last one where several have died; none where that is not known any more, and while nobody had
        /// used the writer.
        pid: Option<u32>,
    }
    /// Why another's load failed.
    LoadFailed {
        /// The process that was loading.
        pid: Option<u32>,
        /// The key, as it prints.
        key: String,
        /// The name of the type of the loader's error.
        type_name: String,
        /// What the loader's error said, perhaps cut.
        text: String,
    }
    /// What of the tables contradicts itself.
    Poisoned {
        /// It, in words.
        what: String,
    }
    /// What was to be opened, and what is there.
    WrongKind {
        /// What was expected, such as "ring".
        expected: String,
        /// What it is; none when it does not say.
        got: Option<String>,
    }
    /// What the system refused.
    Os {
        /// The call, in words.
        what: String,
        /// What the system said; none when the refusal was our own.
        source: Option<Arc<io::Error>>,
    }
}

/// What one process holds of an arena.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Bytes in blocks that it holds; shared ones count for each holder.
    pub bytes: u64,
    /// Blocks that it holds.
    pub blocks: u32,
    /// Whether it is the caller.
    pub is_me: bool,
}

/// One process, as an error names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Its process id, as this process sees it.
    pub pid: u32,
    /// Its name; empty when nobody tells.
    pub name: String,
    /// Whether it is known to be stopped, by a signal or by a debugger.
    pub is_stopped: bool,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "name unknown" } else { &self.name };
        let stopped = if self.is_stopped { ", stopped" } else { "" };
        write!(f, "pid {} ({name}{stopped})", self.pid)
    }
}

/// A reader that keeps a ring full.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Behind {
    /// The process that uses it; none while nobody has.
    pub process: Option<Process>,
    /// Published frames that it has not taken yet.
    pub lag: u64,
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What each variant has: data with the sentence, or the sentence alone.
macro_rules! variants {
    (with data: $($detailed:ident)*; alone: $($plain:ident)*;) => {
        impl Error {
            /// An error of `kind`, without data; `message` says expected, got, and what to do next.
            pub fn new(kind: Kind, message: impl Into<String>) -> Self {
                let message = message.into();
                match kind {
                    $(Kind::$detailed => $detailed::saying(message).into(),)*
                    $(Kind::$plain => Self::$plain(message.into()),)*
                }
            }

            /// The kind to decide by.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$detailed(_) => Kind::$detailed,)*
                    $(Self::$plain(_) => Kind::$plain,)*
                }
            }

            fn message(&self) -> &str {
                match self {
                    $(Self::$detailed(details) => &details.message,)*
                    $(Self::$plain(message) => message,)*
                }
            }

            fn message_mut(&mut self) -> &mut Box<str> {
                match self {
                    $(Self::$detailed(details) => &mut details.message,)*
                    $(Self::$plain(message) => message,)*
                }
            }
        }

        impl Kind {
            /// Its name, as it is written here: `"ArenaFull"`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$detailed => stringify!($detailed),)*
                    $(Self::$plain => stringify!($plain),)*
                }
            }
        }
    };
}

variants! {
    with data: ArenaFull Stale Attach Unreachable Foreign Timeout OwnerDied Empty Full WriterDied LoadFailed Poisoned
        WrongKind Os;
    alone: Interrupted Closed Misuse ReadOnly Refused InvalidValue InvalidType;
}

impl Error {
    /// The same error, with its data, in other words.
    pub(crate) fn saying(mut self, message: impl Into<String>) -> Self {
        *self.message_mut() = message.into().into_boxed_str();
        self
    }

    /// The error of a wait with those added that it was for.
    pub(crate) fn waiting_on(mut self, processes: impl IntoIterator<Item = Process>) -> Self {
        match &mut self {
            Self::Timeout(timeout) => timeout.on.extend(processes),
            Self::Full(full) => full.on.extend(processes),
            _ => {}
        }
        self
    }

    /// The same in its sentence, too: "… It is held by pid 12 (python, stopped)". As it is without any.
    pub(crate) fn said_of(self, what: &str, processes: impl IntoIterator<Item = Process>) -> Self {
        let those: Vec<Process> = processes.into_iter().collect();
        if those.is_empty() || !matches!(self.kind(), Kind::Timeout | Kind::Full | Kind::Interrupted) {
            return self;
        }
        let names: Vec<String> = those.iter().map(ToString::to_string).collect();
        let text = format!("{self}. {what} by {}", names.join("; "));
        self.saying(text).waiting_on(those)
    }

    /// The error of a wait for what these have.
    pub(crate) fn held_by(self, processes: impl IntoIterator<Item = Process>) -> Self {
        self.said_of("It is held", processes)
    }

    pub(crate) fn attach(message: impl Into<String>) -> Self {
        Self::new(Kind::Attach, message)
    }

    /// As [`Self::attach`], where `cause` of the system is why.
    pub(crate) fn attach_by(cause: io::Error, message: impl Into<String>) -> Self {
        Attach { source: Some(Arc::new(cause)), message: message.into().into() }.into()
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unreachable, message)
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidValue, message)
    }

    /// What was to be opened as one kind of thing is `got`; none: it says nothing of itself.
    pub(crate) fn wrong_kind(expected: &str, got: Option<&str>, message: impl Into<String>) -> Self {
        let (expected, got) = (expected.to_owned(), got.map(str::to_owned));
        WrongKind { expected, got, ..WrongKind::saying(message) }.into()
    }

    pub(crate) fn poisoned(what: &str) -> Self {
        let message = format!(
            "the arena's tables contradict themselves ({what}): something wrote over its control memory; \
             save what you need and start all participants anew"
        );
        Self::written_over(what, message)
    }

    /// What stands in `what`, shared memory of ours, cannot be.
    pub(crate) fn written_over(what: &str, message: impl Into<String>) -> Self {
        Poisoned { what: what.to_owned(), ..Poisoned::saying(message) }.into()
    }

    /// The last operating system error of this thread, during `what`.
    pub(crate) fn last_os(what: &str) -> Self {
        Self::os(what, io::Error::last_os_error())
    }

    /// An error of the operating system, during `what`.
    pub(crate) fn os(what: &str, cause: io::Error) -> Self {
        let message = format!("{what} failed: {cause}").into();
        Os { what: what.to_owned(), source: Some(Arc::new(cause)), message }.into()
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.message() == other.message()
    }
}

impl Eq for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = match self {
            Self::Attach(attach) => attach.source.as_ref(),
            Self::Os(os) => os.source.as_ref(),
            _ => None,
        };
        source.map(|source| &**source as _)
    }
}

/// Runs `work` for a binding to another language: a panic, which would be a bug, is an error like any other.
#[doc(hidden)]
#[inline]
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The library poisons the arena itself if tables are half-way.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(bug(&*panic)))
}

#[cold]
fn bug(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Error::new(
        Kind::Poisoned,
        format!("a bug in ndshare stopped this call ({text}): please report it, and start all participants anew"),
    )
}

// A result of nothing is handed back by the fastest calls.
const _: () = assert!(size_of::<Result<()>>() <= 24);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::error::Error as _;

    const KINDS: [Kind; 21] = [
        Kind::ArenaFull,
        Kind::Stale,
        Kind::Attach,
        Kind::Unreachable,
        Kind::Foreign,
        Kind::Timeout,
        Kind::Interrupted,
        Kind::OwnerDied,
        Kind::Empty,
        Kind::Full,
        Kind::Closed,
        Kind::WriterDied,
        Kind::LoadFailed,
        Kind::Misuse,
        Kind::ReadOnly,
        Kind::Refused,
        Kind::Poisoned,
        Kind::InvalidValue,
        Kind::InvalidType,
        Kind::WrongKind,
        Kind::Os,
    ];

    #[test]
    fn each_kind_is_a_variant_that_says_its_sentence() {
        for kind in KINDS {
            let error = Error::new(kind, "expected a, got b");
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, "expected a, got b"));
            assert!(format!("{error:?}").starts_with(&format!("{kind:?}(")), "{error:?}");
            let again = error.clone().saying("expected c");
            assert_eq!((again.kind(), again.to_string().as_str()), (kind, "expected c"));
            assert!(error == error.clone() && error != again);
        }
    }

    #[test]
    fn what_the_system_said_is_the_source() {
        let error = Error::os("opening x", io::Error::from_raw_os_error(2));
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
        assert_eq!((source.raw_os_error(), error.kind()), (Some(2), Kind::Os));
        assert_eq!(error.to_string(), format!("opening x failed: {source}"));
        assert!(Error::value("expected a").source().is_none());
    }
}
