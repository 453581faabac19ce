//! Which arena is the session of this process.
//!
//! All processes of a program share one arena, its session. The first process makes it and is its root; what it starts
//! inherits a text that says where the session is, through the environment ([`VARIABLE`]) or by another way of the
//! parent's, such as multiprocessing's configuration of a process. The text is a list of locators, separated by commas.
//! Each process that has joined puts its own locator first, so that its children ask a parent that lives, and the root's
//! behind it, so that grandchildren also find the session when their parent is gone.
//!
//! A process looks there at its first need. What its parent told it wins, because that comes from the very process that
//! made it. When nobody answers, the process is the root of a session of its own. When the session answers and has no
//! place left, that is an error: with a session of its own the process would seem to work, until its parent looked for
//! what it had sent. A session of another user's is not followed, whoever may look into it.
//!
//! Or the text is a name after an `@`: then the session is the one of this name, which all processes of this user are in
//! that say so. The first makes it, under the lock of the user's registry of names, where others find it; it ends with the
//! last. What such a process passes on has its locators, and then the name: for those who come when all of these are gone.
//!
//! Once a process has a [`Session`] it keeps it, and so do its forked children. The one who looks for it has a turn, and the
//! other threads wait for its end; between two candidates nobody has it. A forked child begins with no turn taken.
//!
//! This library never changes the environment of its own process: other threads may be reading it. A program hands
//! [`Session::environment`] to each process that it starts. (The Python package sets `os.environ`, which Python guards.)
//!
//! ```
//! use std::process::Command;
//!
//! let session = ndshare::session()?; // the parent's, if it has one
//! let (name, value) = session.environment();
//! // A program in Rust or Python that is started so is in the same session.
//! let shown = Command::new("printenv").arg(name).env(name, &value).output()?;
//! assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), value);
//! assert!(value.starts_with(&session.locator().to_string()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::arena::{self, Arena, Deadline, Hold, Locator, Options};
use crate::array::{Array, Token};
use crate::error::{Error, Kind, Result};
use crate::head::HeadKind;
use crate::layout::parse_size;
use crate::lock::Lock;
use crate::os::directory::{Directory, LockedDirectory};
use crate::os::process::at_exit;
use crate::os::{fork, futex, proc};
use crate::prim::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    SetOnce,
};
use std::env;
use std::io::Write;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// The environment variable that says where the session is.
pub const VARIABLE: &str = "NDSHARE_SESSION";
/// The environment variable that bounds a session that is made: a size such as "8 GiB".
pub const BUDGET_VARIABLE: &str = "NDSHARE_BUDGET";

/// The session of this process, by [`session()`]: an arena that it shares with its parent, its children, and whoever else
/// joins. Wherever an arena is asked for, it is one.
///
/// ```
/// use ndshare::{Array, Number, session};
///
/// let session = session()?;
/// let image = Array::zeros(session, &[480, 640], Number::U16)?;
/// assert_eq!(image.hold().arena().id(), session.id());
/// # Ok::<(), ndshare::Error>(())
/// ```
#[derive(Debug)]
pub struct Session {
    arena: Arc<Arena>,
    /// Where the process is that made it, as far as this one was told.
    root: Locator,
    /// By which others find it.
    name: Option<String>,
}

impl Deref for Session {
    type Target = Arc<Arena>;

    fn deref(&self) -> &Self::Target {
        &self.arena
    }
}

impl Session {
    /// Its arena, for whoever keeps it.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// The name by which strangers find it; none for a session of a program and its children alone.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What the children of this process inherit: its own locator, then the root's, then the session's name, if it has one.
    pub fn locators(&self) -> String {
        let own = self.arena.locator();
        let root = (self.root != own).then(|| format!(",{}", self.root));
        let name = self.name.as_ref().map(|name| format!(",@{name}"));
        format!("{own}{}{}", root.unwrap_or_default(), name.unwrap_or_default())
    }

    /// Name and value of the variable that puts a child into this session.
    ///
    /// Give it to every process that shall take part, with [`std::process::Command::env`]. A program whose children are
    /// started by other code may set it for itself ([`std::env::set_var`]) at the start of `main`, while it has one thread.
    ///
    /// ```no_run
    /// let (name, value) = ndshare::session()?.environment();
    /// std::process::Command::new("python3").arg("viewer.py").env(name, value).spawn()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn environment(&self) -> (&'static str, String) {
        (VARIABLE, self.locators())
    }
}

/// Never freed: whoever has found it keeps it.
static SESSION: SetOnce<Session> = SetOnce::new();

/// What a process was told of the session that it belongs to. Texts that are neither locators nor a name are passed over:
/// they came from somebody else's environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// By its parent, in another way than through the environment: locators, separated by commas, and perhaps a name, as in
    /// "@name". They come first.
    pub parent: String,
    /// By the environment ([`VARIABLE`]): as by the parent.
    pub environment: String,
    /// By the process that sent it an array of its own session. It comes last.
    pub sender: Option<Locator>,
    /// By the environment ([`BUDGET_VARIABLE`]): the budget of a session that is made.
    pub budget: Option<String>,
}

impl Told {
    /// What the environment of this process says.
    pub fn by_environment() -> Self {
        // Bytes that are no text are no locator either, and as a budget an error that shows them.
        let text = |name| env::var_os(name).map(|text| text.to_string_lossy().into_owned());
        Self { environment: text(VARIABLE).unwrap_or_default(), budget: text(BUDGET_VARIABLE), ..Self::default() }
    }

    /// Whom to ask, the likeliest first, each once.
    fn candidates(&self) -> Vec<Locator> {
        let named = [&self.parent, &self.environment].into_iter().flat_map(|text| locators_in(text));
        let mut candidates = Vec::new();
        for locator in named.chain(self.sender) {
            if !candidates.contains(&locator) {
                candidates.push(locator);
            }
        }
        candidates
    }

    /// The name of the session to look for when no locator leads to one; of the session of `joined`, if that is given.
    fn name(&self, joined: Option<&Locator>) -> Result<Option<String>> {
        let texts = [&self.parent, &self.environment].into_iter();
        let mut texts = texts.filter(|text| joined.is_none_or(|locator| locators_in(text).any(|one| one == *locator)));
        let name = texts.find_map(|text| named_in(text));
        let told = |error: Error| {
            let text = format!("{error}, behind the @ in {VARIABLE}");
            error.saying(text)
        };
        name.map_or(Ok(None), |name| check_name(name).map_err(told).map(|()| Some(name.to_owned())))
    }

    /// Why the environment's text is not followed, if it is neither a name nor anything that a process gave its children:
    /// whoever wrote it by hand meant something.
    pub fn unread(&self) -> Option<String> {
        let text = self.environment.trim_matches([',', ' ']);
        let is_read = text.is_empty() || named_in(text).is_some() || locators_in(text).next().is_some();
        let shown: String = text.chars().take(60).collect();
        (!is_read && !text.starts_with("nds")).then(|| {
            format!(
                "expected \"@name\" for the session of a name, or what another process of it gave its children, got {shown:?}: \
                 write it with the @ if that is the name"
            )
        })
    }

    fn options(&self) -> Result<Options> {
        let budget = self.budget.as_deref().filter(|text| !text.is_empty());
        let budget_bytes = budget.map(parse_size).transpose()?;
        Ok(Options { budget_bytes, budget_from_environment: budget.is_some(), ..Options::default() })
    }
}

/// The name behind an `@` in a list.
fn named_in(text: &str) -> Option<&str> {
    text.split(',').find_map(|text| text.trim_start().strip_prefix('@'))
}

fn locators_in(text: &str) -> impl Iterator<Item = Locator> {
    text.split(',').filter_map(|text| text.parse().ok())
}

/// The session: the one that this process has, else the one that the environment names, else a new one.
///
/// # Errors
/// `Foreign` when the environment names a session of another user's, and none before it that this process can join:
/// remove the variable, or call [`ensure`] with another answer to that. `Attach` when the session is there and has no place for one
/// more process; `InvalidValue` for a budget or a name in the environment that is none (what is neither a name nor from another
/// process of a session is passed over, with a line on standard error); `ArenaFull` when a limit of the system
/// leaves no room for a session.
///
/// ```
/// let session = ndshare::session()?;
/// assert_eq!(session.id(), ndshare::session()?.id());
/// # Ok::<(), ndshare::Error>(())
/// ```
pub fn session() -> Result<&'static Session> {
    match known() {
        Some(session) => Ok(session),
        None => {
            let told = Told::by_environment();
            if let Some(text) = told.unread() {
                // As Python's warning: nobody else would hear of it. Where nobody listens it is lost.
                let _ = writeln!(std::io::stderr(), "ndshare: {VARIABLE} is not followed: {text}");
            }
            ensure(&told, &Deadline::never(), &mut refuse)
        }
    }
}

/// The session, if this process has found or made it already. Never waits.
///
/// ```
/// ndshare::session()?;
/// assert!(ndshare::session::known().is_some());
/// # Ok::<(), ndshare::Error>(())
/// ```
#[inline]
pub fn known() -> Option<&'static Session> {
    SESSION.get()
}

/// As [`session()`], for a process that was told more than its environment says. What `on_foreign` gives for a session of
/// another user's is what happens then: an error ends the search, else it goes on. No lock of this library is held
/// meanwhile.
///
/// # Errors
/// As [`session()`]; `Timeout` at `deadline`; what `on_foreign` says.
///
/// ```
/// use ndshare::arena::Deadline;
/// use ndshare::session::{self, Told};
///
/// let told = Told { budget: Some("64 MiB".into()), ..Told::by_environment() };
/// let mut warn = |error: &ndshare::Error| -> ndshare::Result<()> { Ok(eprintln!("not followed: {error}")) };
/// let session = session::ensure(&told, &Deadline::never(), &mut warn)?;
/// assert_eq!(session.budget_bytes(), 64 << 20);
/// # Ok::<(), ndshare::Error>(())
/// ```
pub fn ensure(
    told: &Told,
    deadline: &Deadline,
    on_foreign: &mut dyn FnMut(&Error) -> Result<()>,
) -> Result<&'static Session> {
    if let Some(session) = find_told(told, deadline, on_foreign)? {
        return Ok(session);
    }
    let _turn = Turn::take(deadline)?;
    if let Some(session) = known() {
        return Ok(session);
    }
    let session = match told.name(None)? {
        Some(name) => join_or_make(&name, &mut || create(told), deadline)?,
        None => create(told)?,
    };
    Ok(keep(session))
}

/// The session of this name, which every process of this user is in that asks for it, by this or by "@name" in
/// [`VARIABLE`]. The first makes it; it ends with the last. A process that has an unnamed session already gives it the name
/// if nobody has that; otherwise it goes over to the one of the name, as long as it has not used its own.
///
/// ```no_run
/// let session = ndshare::session::named("lab", &ndshare::Deadline::never())?;
/// assert_eq!((session.name(), session.id()), (Some("lab"), ndshare::session()?.id()));
/// # Ok::<(), ndshare::Error>(())
/// ```
///
/// # Errors
/// `InvalidValue` for a name that is empty, longer than 200 bytes, `.` or `..`, or has a slash, a comma or a control
/// character; `Misuse` when this process uses another session already; `Attach` when the registry of names is not to be
/// trusted; as [`session()`].
pub fn named(name: &str, deadline: &Deadline) -> Result<&'static Session> {
    check_name(name)?;
    let _turn = Turn::take(deadline)?;
    let had = SESSION.get();
    if let Some(session) = had.filter(|session| session.name.is_some()) {
        return if session.name.as_deref() == Some(name) { Ok(session) } else { Err(has_another(name)) };
    }
    let session = join_or_make(
        name,
        &mut || match had {
            Some(Session { arena, root, .. }) => Ok(Session { arena: arena.clone(), root: *root, name: None }),
            None => create(&Told::by_environment()),
        },
        deadline,
    )?;
    let is_other = had.filter(|had| had.arena.id() != session.arena.id());
    if is_other.map_or(Ok(false), |had| is_used(&had.arena))? {
        return Err(has_another(name));
    }
    watch_end();
    // What other threads have of the session before stays as it is.
    Ok(SESSION.replace(session))
}

/// Whether anything is in an arena, or anybody else takes part.
fn is_used(arena: &Arena) -> Result<bool> {
    let stats = arena.stats()?;
    Ok(stats.blocks > 0 || !stats.tickets.is_empty() || has_others(arena)?)
}

/// Whether anybody else takes part in an arena.
pub(crate) fn has_others(arena: &Arena) -> Result<bool> {
    Ok(arena.stats()?.participants.iter().any(|one| one.alive && !one.me))
}

#[cold]
fn has_another(name: &str) -> Error {
    let own = SESSION.get().map_or_else(String::new, |session| match &session.name {
        Some(own) => format!("{own:?}"),
        None => format!("{:016x}, which it has used", session.arena.id()),
    });
    let text = format!(
        "expected to join the session {name:?}, and this process is in session {own}: name the session before the first \
         use of ndshare, or set {VARIABLE}=@{name} for the program"
    );
    Error::new(Kind::Misuse, text)
}

/// The longest name of a session, and of what is published.
pub(crate) const MAX_NAME_BYTES: usize = 200;

/// Checks a name that others find something by.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_bad = |char: char| char.is_control() || char == '/' || char == ',';
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name != "." && name != ".." && !name.contains(is_bad) {
        return Ok(());
    }
    let shown: String = name.chars().take(60).collect();
    let len = name.len();
    Err(Error::value(format!(
        "expected a name of 1 to {MAX_NAME_BYTES} bytes without slashes, commas and control characters, and not . or .., \
         got {shown:?} of {len} bytes"
    )))
}

/// Waits for the lock of the user's registry of names.
///
/// # Errors
/// `Timeout` at `deadline`, with the process that has the lock; as [`LockedDirectory::lock`].
pub(crate) fn lock_names(deadline: &Deadline) -> Result<LockedDirectory> {
    let holder = || Directory::find().ok().flatten().and_then(|found| found.lock_holder());
    LockedDirectory::lock(&mut || {
        let held = |error: Error| if deadline.waits() { error.held_by(holder()) } else { error };
        deadline.go_on("the user's registry of names").map_err(held)?;
        std::thread::sleep(deadline.nap(NAP));
        Ok(())
    })
}

const PREFIX: &str = "session-";

fn file_of(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Whether an entry of the registry names a session that nobody has any more.
pub(crate) fn is_dead_session(file: &str, bytes: &[u8]) -> bool {
    file.starts_with(PREFIX) && parse_entry(bytes).is_some_and(|(root, numbering)| Arena::is_gone(&root, numbering))
}

/// The session of a name, made by `make` if nobody has it. Only in a turn.
fn join_or_make(name: &str, make: &mut dyn FnMut() -> Result<Session>, deadline: &Deadline) -> Result<Session> {
    let locked = lock_names(deadline)?;
    let found = join_named(name, locked.directory())?;
    let (session, is_known) = match found {
        Some(session) => {
            let is_known = !proc::is_unused(session.root.pid);
            (session, is_known)
        }
        None => (make()?, false),
    };
    if !is_known {
        // Whoever comes next asks a process that lives.
        locked.write(&file_of(name), entry_of(&session.arena).as_bytes())?;
    }
    Ok(Session { name: Some(name.to_owned()), ..session })
}

/// Joins an arena that is the session of a name. Under the lock of the registry, so that a process that ends as the last one
/// sees this one; its entry may be gone already, and is made anew. A registry that is not to be trusted hinders no child.
fn join_under(name: &str, locator: &Locator, deadline: &Deadline) -> Result<Arc<Arena>> {
    let locked = match lock_names(deadline) {
        Err(error) if matches!(error.kind(), Kind::Attach | Kind::Foreign | Kind::Os) => None,
        other => Some(other?),
    };
    let arena = Arena::attach_as(locator, false)?;
    if let Some(locked) = locked.filter(|locked| matches!(locked.directory().read(&file_of(name)), Ok(None))) {
        let _ = locked.write(&file_of(name), entry_of(&arena).as_bytes());
    }
    Ok(arena)
}

fn entry_of(arena: &Arena) -> String {
    format!("{} {}\n", arena.locator(), proc::pid_namespace().unwrap_or(0))
}

/// How long the end of a process waits for the registry.
pub(crate) const END: Duration = Duration::from_millis(200);

/// The last process of a session with a name takes the entry away when it ends in order.
extern "C" fn leave_named() {
    let Some(Session { arena, name: Some(name), .. }) = SESSION.get() else { return };
    let Ok(locked) = lock_names(&Deadline::new(Some(END), &|| Ok(()))) else { return };
    let is_last = has_others(arena).is_ok_and(|others| !others);
    let entry = locked.directory().read(&file_of(name)).ok().flatten();
    let is_ours = entry.and_then(|bytes| parse_entry(&bytes)).is_some_and(|(root, _)| root.id == arena.id());
    if is_last && is_ours {
        let _ = locked.remove(&file_of(name));
    }
}

/// From now on this process takes the entry away if it is the last.
fn watch_end() {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    if !IS_WATCHED.swap(true, Relaxed) {
        at_exit(leave_named);
    }
}

/// Joins the session that an entry of the registry names; none when there is no such entry, or nobody has the session
/// any more.
fn join_named(name: &str, directory: &Directory) -> Result<Option<Session>> {
    let file = file_of(name);
    let Some(bytes) = directory.read(&file)? else { return Ok(None) };
    let path = directory.path().join(file);
    let Some((root, numbering)) = parse_entry(&bytes) else {
        return Err(Error::attach(format!(
            "expected where the session {name:?} is in {}, got {} other bytes: use one version of ndshare in all processes, \
             or remove it",
            path.display(),
            bytes.len()
        )));
    };
    match Arena::attach_as(&root, false) {
        Ok(arena) => Ok(Some(Session { arena, root, name: Some(name.to_owned()) })),
        Err(_) if Arena::is_gone(&root, numbering) => Ok(None),
        Err(error) => {
            let text =
                format!("the session {name:?} cannot be joined: {error}; if nobody has it, remove {}", path.display());
            Err(error.saying(text))
        }
    }
}

/// The sessions by name that the user's registry has, in order, and where they are; dead ones as well.
///
/// # Errors
/// `Attach`, `Foreign` when the registry is not to be trusted; `Os`.
pub fn listed() -> Result<Vec<(String, Locator)>> {
    let Some(directory) = Directory::find()? else { return Ok(Vec::new()) };
    let listed = |file: String| {
        let (root, _) = parse_entry(&directory.read(&file).ok()??)?;
        Some((file.strip_prefix(PREFIX)?.to_owned(), root))
    };
    Ok(directory.names()?.into_iter().filter_map(listed).collect())
}

/// Where an entry says that a session is, and by whose numbers of processes.
pub(crate) fn parse_entry(bytes: &[u8]) -> Option<(Locator, u64)> {
    let (locator, numbering) = std::str::from_utf8(bytes).ok()?.trim_end().split_once(' ')?;
    Some((locator.parse().ok()?, numbering.parse().ok()?))
}

/// Joins the session that this process was told of; none when nobody answers. As [`ensure`], but makes none.
///
/// # Errors
/// As [`ensure`].
pub fn find(
    told: &Told,
    deadline: &Deadline,
    on_foreign: &mut dyn FnMut(&Error) -> Result<()>,
) -> Result<Option<&'static Session>> {
    if let Some(session) = find_told(told, deadline, on_foreign)? {
        return Ok(Some(session));
    }
    let Some(name) = told.name(None)? else { return Ok(None) };
    let _turn = Turn::take(deadline)?;
    if let Some(session) = known() {
        return Ok(Some(session));
    }
    if Directory::find()?.is_none() {
        return Ok(None);
    }
    let locked = lock_names(deadline)?;
    Ok(join_named(&name, locked.directory())?.map(keep))
}

/// Joins the session that a locator leads to.
fn find_told(
    told: &Told,
    deadline: &Deadline,
    on_foreign: &mut dyn FnMut(&Error) -> Result<()>,
) -> Result<Option<&'static Session>> {
    if let Some(session) = known() {
        return Ok(Some(session));
    }
    let candidates = told.candidates();
    for locator in &candidates {
        // Each is a look into all processes of the machine, if need be.
        deadline.go_on("the search for the session")?;
        match ask(locator, told, &candidates, deadline) {
            Ok(session) => return Ok(Some(session)),
            Err(error) if error.kind() == Kind::Unreachable => {}
            Err(error) if error.kind() == Kind::Foreign => on_foreign(&error)?,
            Err(error) => return Err(error),
        }
    }
    Ok(known())
}

/// Joins the session that `locators` name: the text that [`Session::locators`] gave in another process, where it cannot come
/// through the environment.
///
/// # Errors
/// `Misuse` when this process has another session already; `Unreachable` when nobody has that one any more, or the text
/// names none; `Foreign` when it is another user's; `Attach` when it has no place for one more process.
///
/// ```no_run
/// let text = std::env::args().nth(1).unwrap_or_default();
/// let session = ndshare::session::join(&text)?;
/// # Ok::<(), ndshare::Error>(())
/// ```
pub fn join(locators: &str) -> Result<&'static Session> {
    let told = Told { parent: locators.to_owned(), ..Told::default() };
    let name = told.name(None)?;
    let is_named = |session: &Session| {
        let has_name = name.is_some() && session.name == name;
        has_name || told.candidates().iter().any(|locator| locator.id == session.id())
    };
    match find(&told, &Deadline::never(), &mut refuse)? {
        Some(session) if is_named(session) => Ok(session),
        Some(session) => Err(Error::new(
            Kind::Misuse,
            format!(
                "expected to join the session {locators:?}, and this process is in session {:016x} already: join before \
                 the first use of ndshare",
                session.id()
            ),
        )),
        None => Err(Error::unreachable(format!(
            "expected the locators of a session that some process of this user has, got {locators:?}: nobody answers; \
             take them from a process that lives"
        ))),
    }
}

/// Makes the session of the sender of an array that of this process, unless it has one or was told of another.
/// None when there is none to be joined: then the array's arena is opened beside a session that comes later.
///
/// # Errors
/// `Attach` when the session has no place for one more process.
///
/// ```
/// let session = ndshare::session()?;
/// let sender = ndshare::arena::Locator { id: 7, pid: 1, fd: 3, is_readonly: false };
/// let adopted = ndshare::session::adopt(sender)?; // it has one
/// assert_eq!(adopted.map(|adopted| adopted.id()), Some(session.id()));
/// # Ok::<(), ndshare::Error>(())
/// ```
pub fn adopt(sender: Locator) -> Result<Option<&'static Session>> {
    let told = Told { sender: Some(sender), ..Told::by_environment() };
    let told = if told.name(None)?.is_some() { Told { sender: None, ..told } } else { told };
    // Another user's stays an error of whoever opens the array, or asks for the session.
    find(&told, &Deadline::never(), &mut |_| Ok(()))
}

impl Array {
    /// A reference to the array for other processes, which opens while anybody has the array. As text it goes on a command
    /// line.
    pub fn reference(&self) -> Token {
        Token { is_session: is_of(self.hold()), ..self.bare_reference() }
    }

    /// The array that a reference names, whosever arena it is in. A process that has no session yet joins the sender's,
    /// if the array is in that.
    ///
    /// ```
    /// use ndshare::{Array, Deadline};
    ///
    /// let array = Array::from_slice(ndshare::session()?, &[2], &[1.0_f64, 2.0])?;
    /// let text = array.reference().to_string(); // to another process of the session
    /// let opened = Array::open_reference(&text.parse()?, &Deadline::never())?;
    /// assert_eq!(opened.to_vec::<f64>()?, [1.0, 2.0]);
    /// # Ok::<(), ndshare::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Token::open`], and [`adopt`]; `WrongKind` for a reference to something else.
    pub fn open_reference(reference: &Token, deadline: &Deadline<'_>) -> Result<Self> {
        reference.array_in(claim(reference, deadline)?)
    }
}

/// The block that a token names, as [`Array::open_reference`] does.
///
/// # Errors
/// As there.
pub fn claim(token: &Token, deadline: &Deadline<'_>) -> Result<Hold> {
    let session = if token.is_session { adopt(token.locator)? } else { known() };
    match session.filter(|session| session.id() == token.locator.id) {
        Some(session) => token.claim(session, deadline),
        None => token.claim(&Arena::attach(&token.locator)?, deadline),
    }
}

/// Gives a type whose head says what it is, and which opens from that, `reference` and `open_reference`.
macro_rules! by_reference {
    ($type:ty, $kind:ident, $noun:literal, $opened:ty) => {
        impl $type {
            #[doc = concat!("A reference to the ", $noun, " for other processes, of this session or not; as text it goes on a")]
            #[doc = concat!("command line. It opens while anybody has the ", $noun, ".")]
            pub fn reference(&self) -> $crate::Token {
                $crate::session::reference_to(self.head())
            }

            #[doc = concat!("The ", $noun, " that such a reference names.")]
            ///
            /// # Errors
            /// As [`Array::open_reference`](crate::Array::open_reference) and [`Self::open`]; `WrongKind` for a reference to
            /// something else.
            pub fn open_reference(
                reference: &$crate::Token,
                deadline: &$crate::Deadline,
            ) -> $crate::Result<$opened> {
                Self::open($crate::session::claim_head(reference, $crate::head::HeadKind::$kind, deadline)?)
            }
        }
    };
}
pub(crate) use by_reference;

by_reference!(Lock, Lock, "lock", Self);

/// The head of a kind that a reference names. Whoever opens it checks that it is one.
pub(crate) fn claim_head(reference: &Token, kind: HeadKind, deadline: &Deadline) -> Result<Hold> {
    reference.check_head(kind)?;
    claim(reference, deadline)
}

/// A reference to a block that says itself what it is, such as the head of a ring.
pub fn reference_to(head: &Hold) -> Token {
    Token { is_session: is_of(head), ..Token::of(head) }
}

fn is_of(hold: &Hold) -> bool {
    // What is joined to read only is no session, nor is it to become one elsewhere.
    known().is_some_and(|session| Arc::ptr_eq(session.arena(), hold.arena()))
}

/// Prepares for forks now. Otherwise the first search does so, and a child that is forked just then would wait for ever.
pub(crate) fn warm_up() -> Result<()> {
    arena::watch_forks()?;
    watch_forks()
}

fn refuse(error: &Error) -> Result<()> {
    Err(error.clone())
}

/// Joins the arena of one candidate.
fn ask(locator: &Locator, told: &Told, candidates: &[Locator], deadline: &Deadline) -> Result<&'static Session> {
    let _turn = Turn::take(deadline)?;
    if let Some(session) = known() {
        return Ok(session);
    }
    // A name that is none hinders nobody: the session is there.
    let name = told.name(Some(locator)).unwrap_or(None);
    let arena = match &name {
        Some(name) => join_under(name, locator, deadline)?,
        None => Arena::attach_as(locator, false)?,
    };
    // Not the last of all: the others may name another session.
    let root = candidates.iter().rfind(|other| other.id == locator.id).unwrap_or(locator);
    Ok(keep(Session { arena, root: *root, name }))
}

fn create(told: &Told) -> Result<Session> {
    let arena = told.options().and_then(|options| Arena::create(&options)).map_err(|error| match error.kind() {
        Kind::InvalidValue => Error::value(format!("{BUDGET_VARIABLE}: {error}")),
        _ => error,
    })?;
    let root = arena.locator();
    Ok(Session { arena, root, name: None })
}

/// Only in a turn, and only while there is none.
fn keep(session: Session) -> &'static Session {
    if session.name.is_some() {
        watch_end();
    }
    SESSION.set(session)
}

/// The right to look for the session, which one thread has at a time: a second one that joined at once would take a
/// second place, which may be more than there are. Dropping it ends it.
#[must_use]
struct Turn(());

/// Whether a thread of this process has the turn.
static IS_TAKEN: AtomicU32 = AtomicU32::new(0);
/// A waiter looks at its timeout and its check so often.
const NAP: Duration = Duration::from_millis(20);

impl Turn {
    /// Waits for the turn, if another thread has it.
    fn take(deadline: &Deadline) -> Result<Self> {
        // Before it is taken: a child must not inherit one that nobody ends.
        watch_forks()?;
        // BOUND: until the thread that has the turn has joined or made one arena, or `deadline` ends.
        while IS_TAKEN.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            if !fork::is_known() {
                return Err(Error::attach(
                    "this process was made by a raw clone while another thread of its parent looked for the session: \
                     make it with fork",
                ));
            }
            deadline.go_on("the search for the session by another thread of this process")?;
            futex::wait(&IS_TAKEN, 1, deadline.nap(NAP));
        }
        Ok(Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        IS_TAKEN.store(0, Release);
        futex::wake_all(&IS_TAKEN);
    }
}

/// From now on a forked child begins without the turn that a thread of its parent had. It needs no turn, and nobody waits
/// in it: two threads that do it at once do it twice, which does no harm.
fn watch_forks() -> Result<()> {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    if !IS_DONE.load(Acquire) {
        fork::set_known();
        fork::at_fork(nothing, nothing, in_child)?;
        IS_DONE.store(true, Release);
    }
    Ok(())
}

extern "C" fn nothing() {}

extern "C" fn in_child() {
    fork::set_known();
    IS_TAKEN.store(0, Release);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn locator(id: u64, pid: u32) -> Locator {
        Locator { id, pid, fd: 3, is_readonly: false }
    }

    fn told(parent: &str, environment: &str) -> Told {
        Told { parent: parent.into(), environment: environment.into(), ..Told::default() }
    }

    #[test]
    fn a_parents_word_goes_before_the_environments_and_each_is_asked_once() {
        let [one, two, three] = [1, 2, 3].map(|pid| locator(9, pid));
        let told = Told { sender: Some(two), ..told(&format!("{two},{one}"), &format!("{three},{one}")) };
        assert_eq!(told.candidates(), [two, one, three]);
        let last = Told { sender: Some(one), ..Told::default() };
        assert_eq!(last.candidates(), [one]);
    }

    #[test]
    fn what_is_no_locator_is_passed_over() {
        let good = locator(9, 1);
        for bad in ["", ",", ",,,", "garbage", "nds1-", "nds1-zz-1-1", "@name", "\u{2603}", &"x".repeat(5000)] {
            assert_eq!(told(bad, bad).candidates(), [], "{bad:?}");
            assert_eq!(told("", &format!("{bad},{good},{bad}")).candidates(), [good], "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_passed_on_with_its_spaces() {
        for name in [" lab ", "lab\u{a0}", "@", "a\u{2028}"] {
            assert_eq!(told(&format!("{}, @{name}", locator(9, 1)), "").name(None).unwrap().as_deref(), Some(name));
        }
    }

    #[test]
    fn a_text_that_means_nothing_is_told_and_one_of_a_process_is_not() {
        let unread = |text: &str| told("", text).unread();
        for text in ["lab", "lab@home", "me@example.org", "1, lab"] {
            assert!(unread(text).is_some_and(|said| said.contains(text)), "{text:?}");
        }
        let gone = "nds0-of-another-version";
        for text in ["", ",", "@lab", &format!("{},@lab", locator(9, 1)), ", @lab", gone] {
            assert_eq!(unread(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_budget_is_read_and_one_that_is_none_says_where_it_came_from() {
        let with = |text: &str| Told { budget: Some(text.into()), ..Told::default() };
        let options = with("8 MiB").options().unwrap();
        assert_eq!(
            options,
            Options { budget_bytes: Some(8 << 20), budget_from_environment: true, ..Options::default() }
        );
        assert_eq!(with("").options().unwrap(), Options::default());
        assert_eq!(with("much").options().unwrap_err().kind(), Kind::InvalidValue);
    }

    #[test]
    fn one_thread_has_the_turn_and_who_waits_keeps_to_its_deadline() {
        let turn = Turn::take(&Deadline::never()).unwrap();
        let late = Turn::take(&Deadline::new(Some(Duration::from_millis(1)), &|| Ok(()))).err().unwrap();
        assert_eq!(late.kind(), Kind::Timeout);
        let interrupt = || Err(Error::new(Kind::Interrupted, "a signal"));
        let interrupted = Turn::take(&Deadline::new(None, &interrupt)).err().unwrap();
        assert_eq!(interrupted.kind(), Kind::Interrupted);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| Turn::take(&Deadline::never()).map(drop));
            drop(turn);
            assert_eq!(other.join().unwrap(), Ok(()));
        });
    }
}
