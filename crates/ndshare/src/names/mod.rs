//! Names by which programs without a parent in common find what others have: arrays, rings, caches, overlays, locks, arenas.
//!
//! A name is an entry in the user's registry (`os::directory`): what it names, and where that is. It keeps nothing. It works
//! as long as any process has the object: who published it has it until it takes the name back or ends, and whoever attached
//! to it has it as well. An entry whose object is gone is removed by whoever comes upon it.
//!
//! Other users find none of this. What they may read is offered to them: [`publish_to`], [`attach_offered`].
//!
//! An arena that lasts, because it is a file with a path, has names of its own: [`Arena::publish`] and its like, in `within`.
//!
//! Nothing in an entry is believed that cannot be checked: the arena is another process's of this user, found and joined as
//! any other, and the block's own head says what it is.
//!
//! ```
//! use ndshare::{Array, Deadline, Number, names};
//! use std::time::Duration;
//!
//! let soon = Deadline::new(Some(Duration::from_secs(5)), &|| Ok(()));
//! let image = Array::zeros(ndshare::session()?, &[480, 640], Number::U16)?;
//! let name = format!("image of {}", std::process::id());
//! names::publish(&name, &image, false, &soon)?; // nds.publish(name, image)
//! // In another program, in Rust or Python: nds.attach(name, timeout=5)
//! let same: Array = names::attach(&name, &soon)?.try_into()?;
//! assert_eq!((same.shape(), same.as_ptr()), (image.shape(), image.as_ptr()));
//! assert!(names::names()?.contains(&(name.clone(), names::ObjectKind::Array)));
//! assert!(names::unpublish(&name, &soon)?);
//! # Ok::<(), ndshare::Error>(())
//! ```

mod letter;
mod offer;
mod offered;
mod office;
mod within;

use crate::arena::{Arena, BlockId, Deadline, Hold, Locator};
use crate::array::{Array, Token};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::lock::Lock;
use crate::os::directory::{Directory, MOST_BYTES};
use crate::os::fork::between_forks;
use crate::os::offers;
use crate::os::proc;
use crate::os::process::at_exit;
use crate::overlay::Overlay;
use crate::prim::{AtomicBool, Ordering::Relaxed, SpinLock};
pub use crate::registry::ObjectKind;
use crate::ring::Ring;
use crate::session::{END, check_name, has_others, is_dead_session, lock_names};
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use letter::Letter;
use letter::file_of as file_of_offer;
pub use offer::publish_found_to;
pub use offer::{Audience, publish_to};
pub use offered::{Offered, OfferedArray, attach_offered};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Who waits for a name looks so often.
const NAP: Duration = Duration::from_millis(20);
/// How many names an error tells.
const TOLD: usize = 10;

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Object {
    /// An array: these very bytes, as they are laid out.
    Array(Array),
    /// A ring, to write to and to make readers of.
    Ring(Arc<Ring>),
    /// A cache.
    Cache(Arc<Cache>),
    /// An overlay.
    Overlay(Overlay),
    /// A lock.
    Lock(Lock),
    /// An arena.
    Arena(Arc<Arena>),
}

impl Object {
    /// What it is.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Array(_) => ObjectKind::Array,
            Self::Ring(_) => ObjectKind::Ring,
            Self::Cache(_) => ObjectKind::Cache,
            Self::Overlay(_) => ObjectKind::Overlay,
            Self::Lock(_) => ObjectKind::Lock,
            Self::Arena(_) => ObjectKind::Arena,
        }
    }

    fn token(&self) -> Token {
        match self {
            Self::Array(array) => array.reference(),
            Self::Ring(ring) => Token::of(ring.head()),
            Self::Cache(cache) => Token::of(cache.head()),
            Self::Overlay(overlay) => Token::of(overlay.head()),
            Self::Lock(lock) => Token::of(lock.head()),
            Self::Arena(arena) => whole(arena.locator()),
        }
    }

    fn kept(&self) -> Kept {
        match self {
            Self::Array(array) => Kept::Block(array.hold().clone()),
            Self::Ring(ring) => Kept::Block(ring.head().clone()),
            Self::Cache(cache) => Kept::Block(cache.head().clone()),
            Self::Overlay(overlay) => Kept::Block(overlay.head().clone()),
            Self::Lock(lock) => Kept::Block(lock.head().clone()),
            Self::Arena(arena) => Kept::Arena(arena.clone()),
        }
    }

    /// What the registry has to know of it.
    #[doc(hidden)]
    pub fn found(&self) -> Found {
        Found { kind: self.kind(), token: self.token(), kept: self.kept() }
    }

    fn open(found: Found) -> Result<Self> {
        let token = found.token;
        Ok(match (found.kind, found.kept) {
            (ObjectKind::Array, Kept::Block(hold)) => {
                Self::Array(Array::of_parts(hold, token.offset, token.description, token.is_readonly)?)
            }
            (ObjectKind::Ring, Kept::Block(head)) => Self::Ring(Ring::open(head)?),
            (ObjectKind::Cache, Kept::Block(head)) => Self::Cache(Cache::open(head)?),
            (ObjectKind::Overlay, Kept::Block(head)) => Self::Overlay(Overlay::open(head)?),
            (ObjectKind::Lock, Kept::Block(head)) => Self::Lock(Lock::open(head)?),
            (ObjectKind::Arena, Kept::Arena(arena)) => Self::Arena(arena),
            (kind, _) => {
                return Err(Error::value(format!(
                    "expected an object that can be opened here, got one of kind {kind}"
                )));
            }
        })
    }
}

/// An object is made of each kind, and is taken for one.
macro_rules! kinds {
    ($($kind:ident: $type:ty,)*) => {$(
        impl From<$type> for Object {
            fn from(object: $type) -> Self {
                Self::$kind(object)
            }
        }

        impl From<&$type> for Object {
            fn from(object: &$type) -> Self {
                Self::$kind(object.clone())
            }
        }

        impl TryFrom<Object> for $type {
            type Error = Error;

            fn try_from(object: Object) -> Result<Self> {
                match object {
                    Object::$kind(object) => Ok(object),
                    other => {
                        let (wanted, got) = (ObjectKind::$kind, other.kind());
                        Err(Error::new(Kind::InvalidType, format!("expected a name of kind {wanted}, got one of kind {got}")))
                    }
                }
            }
        }
    )*};
}

kinds! {
    Array: Array,
    Ring: Arc<Ring>,
    Cache: Arc<Cache>,
    Overlay: Overlay,
    Lock: Lock,
    Arena: Arc<Arena>,
}

/// Publishes an object under a name of this user's. This process keeps the object until it takes the name back, somebody
/// replaces it, or the process ends; whoever attaches keeps it as well, so that the name outlives this process.
///
/// # Errors
/// `InvalidValue` for a name that is empty, longer than 200 bytes, `.` or `..`, or has a slash, a comma or a control
/// character; `Misuse` when another object that lives has the name, unless `replace` says that it loses it; `Attach` and
/// `Foreign` when the registry, or what is there under this name, is not to be trusted; `Os`; `Timeout` at `deadline`.
pub fn publish(name: &str, object: impl Into<Object>, replace: bool, deadline: &Deadline) -> Result<()> {
    publish_as(name, object.into().found(), replace, deadline)
}

/// The object of a name, as soon as somebody publishes it. An object of another session's is opened beside this process's
/// own.
///
/// # Errors
/// `Timeout` at `deadline`, with the names that there are; `InvalidValue` for a name that can be none; `Attach`, `Foreign`
/// when the registry, or what is there under this name, is not to be trusted, or its arena cannot be joined; as the opening
/// of the object.
pub fn attach(name: &str, deadline: &Deadline) -> Result<Object> {
    Object::open(wait_for(name, deadline)?)
}

/// As [`attach`], for who only looks: the arena of the object is joined to read only. Arrays, frames and values lie in memory
/// without write permission here, which this process cannot give itself, so that no bug of its own can damage them. What
/// would write, or make something new there, is an error; readers, locks and the uses of overlays work as everywhere. A
/// process that has the arena with write permission already has it a second time then, at another address.
///
/// ```
/// use ndshare::{Array, Deadline, Kind, Number, names};
///
/// let forever = Deadline::never();
/// let image = Array::zeros(ndshare::session()?, &[480, 640], Number::U16)?;
/// let name = format!("image to look at of {}", std::process::id());
/// names::publish(&name, &image, false, &forever)?;
/// // In another program, in Rust or Python: nds.attach(name, readonly=True)
/// let same: Array = names::attach_readonly(&name, &forever)?.try_into()?;
/// image.fill(7_u16)?;
/// assert_eq!(same.read::<u16>(&[3, 5])?, 7);
/// assert!(same.is_readonly() && same.write(&[3, 5], 8_u16).is_err());
/// assert_eq!(Array::zeros(same.hold().arena(), &[3], Number::U8).unwrap_err().kind(), Kind::ReadOnly);
/// assert!(names::unpublish(&name, &forever)?);
/// # Ok::<(), ndshare::Error>(())
/// ```
///
/// # Errors
/// As [`attach`].
pub fn attach_readonly(name: &str, deadline: &Deadline) -> Result<Object> {
    Object::open(wait_to_read(name, deadline)?)
}

/// Takes a name away, whoever published it; says whether there was one. Those who have the object keep it.
///
/// # Errors
/// `InvalidValue`, `Attach`, `Foreign`, `Os`, `Timeout` as [`publish`].
pub fn unpublish(name: &str, deadline: &Deadline) -> Result<bool> {
    check_name(name)?;
    office::withdraw(name);
    offers::remove(&file_of_offer(name));
    let removed = match Directory::find()? {
        // Nobody is to wait for a directory that is not there.
        None => false,
        Some(_) => lock_names(deadline)?.remove(&file_of(name))?,
    };
    settle()?;
    Ok(removed)
}

/// The names of this user's whose objects live, in order, and what they are. Entries of dead ones are removed.
///
/// # Errors
/// `Attach`, `Foreign` when the registry is not to be trusted; `Os`.
pub fn names() -> Result<Vec<(String, ObjectKind)>> {
    settle()?;
    let Some(directory) = Directory::find()? else { return Ok(Vec::new()) };
    let mut alive = Vec::new();
    for file in directory.names()? {
        // One that is not to be trusted is an error of whoever asks for it.
        let Ok(Some(bytes)) = directory.read(&file) else { continue };
        if is_dead_session(&file, &bytes) {
            prune(&file, &bytes);
        }
        let Some(name) = file.strip_prefix(PREFIX) else { continue };
        let Some(entry) = Entry::parse(&bytes) else { continue };
        match entry.find(Access::Any) {
            Ok(None) => prune(&file, &bytes),
            Ok(Some(_)) | Err(_) => alive.push((name.to_owned(), entry.kind)),
        }
    }
    Ok(alive)
}

/// A name as the registry has it, whether its object lives or not.
#[derive(Debug, Clone)]
#[doc(hidden)]
pub struct Listed {
    /// The name.
    pub name: String,
    /// What it names.
    pub kind: ObjectKind,
    /// Where that is.
    pub locator: Locator,
    /// Its block; of an arena it means nothing.
    pub block: BlockId,
}

/// What the user's registry lists, in order. Nothing is opened, joined or removed.
///
/// # Errors
/// `Attach`, `Foreign` when the registry is not to be trusted; `Os`.
#[doc(hidden)]
pub fn listed() -> Result<Vec<Listed>> {
    let Some(directory) = Directory::find()? else { return Ok(Vec::new()) };
    let listed = |file: String| {
        let Entry { kind, token, .. } = Entry::parse(&directory.read(&file).ok()??)?;
        let name = file.strip_prefix(PREFIX)?.to_owned();
        Some(Listed { name, kind, locator: token.locator, block: token.block })
    };
    Ok(directory.names()?.into_iter().filter_map(listed).collect())
}

/// What keeps an object.
#[derive(Debug, Clone)]
#[doc(hidden)]
pub enum Kept {
    /// A hold on its block.
    Block(Hold),
    /// The arena that it is.
    Arena(Arc<Arena>),
}

/// An object as the registry has it: not opened.
#[derive(Debug, Clone)]
#[doc(hidden)]
pub struct Found {
    /// What it is.
    pub kind: ObjectKind,
    /// Where it is, without a ticket. Of an arena only the locator counts.
    pub token: Token,
    /// What keeps it.
    pub kept: Kept,
}

/// As [`publish`], of an object that a binding has in its own form.
///
/// # Errors
/// As [`publish`].
#[doc(hidden)]
pub fn publish_as(name: &str, object: Found, replace: bool, deadline: &Deadline) -> Result<()> {
    let was_there = enter(name, object, replace, deadline)?;
    if replace || !was_there {
        // What was offered to other users under the name before is offered no more.
        office::withdraw(name);
    }
    if replace {
        offers::remove(&file_of_offer(name));
    }
    Ok(())
}

/// Enters an object in the registry; says whether this very one had the name already.
fn enter(name: &str, object: Found, replace: bool, deadline: &Deadline) -> Result<bool> {
    check_name(name)?;
    let Found { kind, token, kept } = object;
    // Strangers stay in the sessions that they have.
    let token = Token { is_session: false, ..token };
    let entry = Entry { kind, numbering: proc::pid_namespace().unwrap_or(0), token };
    let (file, bytes) = (file_of(name), entry.to_string().into_bytes());
    check_said(bytes.len(), MOST_BYTES)?;
    let locked = lock_names(deadline)?;
    let there = locked.directory().read(&file)?;
    let was_there = there.as_deref().is_some_and(|there| says_the_same(there, &bytes));
    if let Some(there) = there.filter(|_| !replace && !was_there) {
        refuse_taken(name, &there)?;
    }
    locked.write(&file, &bytes)?;
    let before = between_forks(|| {
        let mut published = PUBLISHED.lock();
        let before = published.iter().position(|one| one.file == file).map(|at| published.swap_remove(at));
        published.push(Published { file, bytes, kept });
        before
    });
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    if !IS_WATCHED.swap(true, Relaxed) {
        at_exit(leave);
    }
    // Outside: giving a block back takes locks that a fork holds.
    drop((locked, before));
    settle().map(|()| was_there)
}

/// Refuses what takes more bytes to be said than who reads it would take.
fn check_said(len: usize, most: usize) -> Result<()> {
    if len <= most {
        return Ok(());
    }
    Err(Error::value(format!(
        "expected an array that is said in {most} bytes, got {len}: take a dtype with fewer fields, or shorter names"
    )))
}

/// As [`attach`], but does not open the object.
///
/// # Errors
/// As [`attach`].
#[doc(hidden)]
pub fn wait_for(name: &str, deadline: &Deadline) -> Result<Found> {
    wait(name, Access::Write, deadline)
}

/// As [`attach_readonly`], but does not open the object.
///
/// # Errors
/// As [`attach`].
#[doc(hidden)]
pub fn wait_to_read(name: &str, deadline: &Deadline) -> Result<Found> {
    wait(name, Access::Read, deadline)
}

fn wait(name: &str, access: Access, deadline: &Deadline) -> Result<Found> {
    check_name(name)?;
    settle()?;
    // BOUND: until somebody publishes the name, or `deadline` ends.
    loop {
        if let Some(found) = look(name, access)? {
            return Ok(found);
        }
        deadline.go_on(&format!("the name {name:?}")).map_err(|error| not_there(name, error))?;
        std::thread::sleep(deadline.nap(NAP));
    }
}

#[cold]
fn not_there(name: &str, error: Error) -> Error {
    let place =
        Directory::find().ok().flatten().map_or_else(String::new, |found| format!(" in {}", found.path().display()));
    missing(name, error, &names().unwrap_or_default(), &place)
}

/// The error of a wait for a name that nothing has, with those that there are.
#[cold]
fn missing(name: &str, error: Error, there: &[(String, ObjectKind)], place: &str) -> Error {
    if error.kind() != Kind::Timeout {
        return error;
    }
    let shown: Vec<String> = there.iter().take(TOLD).map(|(name, _)| format!("{name:?}")).collect();
    let (shown, more) = (shown.join(", "), if there.len() > TOLD { " and more" } else { "" });
    let there = if there.is_empty() { "there are no names".to_owned() } else { format!("there are {shown}{more}") };
    error.saying(format!(
        "expected an object that lives under the name {name:?}, got none before the timeout: {there}{place}; publish one, \
         or wait longer"
    ))
}

const PREFIX: &str = "name-";

fn file_of(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn name_of(file: &str) -> &str {
    file.strip_prefix(PREFIX).unwrap_or(file)
}

/// A token of nothing but an arena.
fn whole(locator: Locator) -> Token {
    Token {
        locator,
        block: BlockId { index: 0, generation: 0 },
        ticket: None,
        is_session: false,
        is_readonly: false,
        offset: 0,
        description: Default::default(),
    }
}

/// How the arena of a name is joined.
#[derive(Debug, Clone, Copy)]
enum Access {
    /// As this process has it, or as who named it has it: just to look whether the object lives.
    Any,
    /// With write permission, unless who named it has none.
    Write,
    Read,
}

/// What stands in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    kind: ObjectKind,
    /// The pid namespace of whoever published it.
    numbering: u64,
    token: Token,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}", self.kind, self.numbering, self.token)
    }
}

impl Entry {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.trim_end().splitn(3, ' ');
        let kind = parts.next()?;
        let kind = ObjectKind::ALL.into_iter().find(|one| one.name() == kind)?;
        Some(Self { kind, numbering: parts.next()?.parse().ok()?, token: parts.next()?.parse().ok()? })
    }

    /// Whether both stand for the same object.
    fn is_same(&self, other: &Self) -> bool {
        (self.kind, self.token.key()) == (other.kind, other.token.key())
    }

    /// The error, with the name, and with what to do where processes of different containers see nothing of each other.
    fn not_reached(&self, name: &str, error: Error) -> Error {
        let is_elsewhere = proc::pid_namespace().is_some_and(|here| ![0, here].contains(&self.numbering));
        let why = match error.kind() {
            Kind::Unreachable if is_elsewhere => format!(
                "process {}, which published it, is in another container (pid namespace), and this one does not see its \
                 /proc: run both in one pid namespace, or let it be read: publish it there with mode=0o640, from an arena \
                 with a mode, and attach to it here with user= and readonly=True",
                self.token.locator.pid
            ),
            _ => error.to_string(),
        };
        error.saying(format!("the {} {name:?} cannot be reached: {why}", self.kind))
    }

    /// The object; none when it is gone.
    fn find(&self, access: Access) -> Result<Option<Kept>> {
        let locator = &self.token.locator;
        let joined = match access {
            Access::Any => Arena::attach(locator),
            Access::Write => Arena::attach_as(locator, locator.is_readonly),
            Access::Read => Arena::attach_as(locator, true),
        };
        let arena = match joined {
            Ok(arena) => arena,
            Err(_) if Arena::is_gone(locator, self.numbering) => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.kind == ObjectKind::Arena {
            return Ok(Some(Kept::Arena(arena)));
        }
        // Sweeps the dead: what they alone held is gone, also where the session lives on.
        let _ = arena.is_kept_by_others(self.token.block);
        match arena.take(self.token.block) {
            Ok(hold) => Ok(Some(Kept::Block(hold))),
            Err(error) if error.kind() == Kind::Stale => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn look(name: &str, access: Access) -> Result<Option<Found>> {
    let file = file_of(name);
    let Some(directory) = Directory::find()? else { return Ok(None) };
    let Some(bytes) = directory.read(&file)? else { return Ok(None) };
    let entry = Entry::parse(&bytes).ok_or_else(|| {
        let path = directory.path().join(&file);
        Error::attach(format!(
            "expected an entry of this version of ndshare in {}, got {} other bytes: use one version in all processes, or \
             remove it",
            path.display(),
            bytes.len()
        ))
    })?;
    let found = entry.find(access).map_err(|error| entry.not_reached(name, error))?;
    if found.is_none() {
        prune(&file, &bytes);
    }
    Ok(found.map(|kept| Found { kind: entry.kind, token: entry.token, kept }))
}

/// Whether two entries stand for one object, which several processes may have published.
fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    one == other || Entry::parse(one).zip(Entry::parse(other)).is_some_and(|(one, other)| one.is_same(&other))
}

/// Removes the entry of a dead object, if nobody changes entries just now.
fn prune(file: &str, seen: &[u8]) {
    let Ok(locked) = lock_names(&Deadline::now()) else { return };
    if locked.directory().read(file).is_ok_and(|now| now.as_deref() == Some(seen)) {
        let _ = locked.remove(file);
    }
}

/// An entry of another object keeps its name while that lives.
fn refuse_taken(name: &str, there: &[u8]) -> Result<()> {
    let Some(theirs) = Entry::parse(there) else {
        return Err(Error::new(
            Kind::Misuse,
            format!("{name:?} names something of another version: replace it, or choose another name"),
        ));
    };
    // What cannot be reached from here may live.
    if theirs.find(Access::Any).is_ok_and(|found| found.is_none()) {
        return Ok(());
    }
    let (kind, pid) = (theirs.kind, theirs.token.locator.pid);
    Err(Error::new(
        Kind::Misuse,
        format!(
            "expected {name:?} to be free, got one that lives ({kind} of process {pid}): choose another name, unpublish that \
             one, or replace it (replace=True)"
        ),
    ))
}

/// What this process published, and keeps for that.
struct Published {
    file: String,
    bytes: Vec<u8>,
    kept: Kept,
}

/// Taken only between forks, so that no child has it taken.
static PUBLISHED: SpinLock<Vec<Published>> = SpinLock::new(Vec::new());

/// What nobody else has goes with a process that ends in order, and so do the names of it.
extern "C" fn leave() {
    let mine = between_forks(|| std::mem::take(&mut *PUBLISHED.lock()));
    let alone = |kept: &Kept| match kept {
        Kept::Block(hold) => hold.has_other_holders().is_ok_and(|others| !others),
        Kept::Arena(arena) => has_others(arena).is_ok_and(|others| !others),
    };
    if !mine.iter().any(|one| alone(&one.kept)) {
        return;
    }
    let Ok(locked) = lock_names(&Deadline::new(Some(END), &|| Ok(()))) else { return };
    // Asked anew: somebody may have attached while this process waited.
    for one in mine.iter().filter(|one| alone(&one.kept)) {
        if locked.directory().read(&one.file).is_ok_and(|there| there.as_ref() == Some(&one.bytes)) {
            let _ = locked.remove(&one.file);
        }
    }
}

/// Lets go of what this process published and somebody has taken the name of.
fn settle() -> Result<()> {
    let known =
        between_forks(|| PUBLISHED.lock().iter().map(|one| (one.file.clone(), one.bytes.clone())).collect::<Vec<_>>());
    if known.is_empty() {
        return Ok(());
    }
    let directory = Directory::find()?;
    for (file, bytes) in known {
        let there = directory.as_ref().map_or(Ok(None), |directory| directory.read(&file));
        // What cannot be read now may be there.
        if there.is_ok_and(|there| !there.is_some_and(|there| says_the_same(&there, &bytes))) {
            let is_it = |one: &Published| one.file == file && one.bytes == bytes;
            let gone = between_forks(|| {
                let mut published = PUBLISHED.lock();
                published.iter().position(is_it).map(|at| published.swap_remove(at))
            });
            drop(gone);
            office::withdraw(name_of(&file));
        }
    }
    Ok(())
}
