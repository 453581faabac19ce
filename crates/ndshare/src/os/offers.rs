//! The directory in which a user's offers to other users are: a socket for each name, with the rights of those who may
//! connect. Others may go through it, and neither list nor change it.
//!
//! It is `ndshare-<uid>-offers` in `/dev/shm`, else in `/tmp`, or in the directory that `NDSHARE_OFFERS` names: one in which
//! nobody can take away what is another's. Both sides check that it is the user's. What stands in it is no proof of anything:
//! whoever connects asks the kernel who listens.
//!
//! A socket whose process has died refuses connections, and whoever makes the next one removes it.

use super::directory::{holder_of, keeps_owners_apart};
use super::fork::between_forks;
use super::kill::{Point, point};
use super::path::is_in_memory;
use super::socket::{Awaited, Peer, Socket, poll};
use super::{effective_gid, effective_uid, random_u64};
use crate::error::{Error, Foreign, Kind, Process, Result};
use crate::prim::{AtomicU32, Ordering::Relaxed};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the directories of offers are, if not at the usual place.
const PLACE_VARIABLE: &str = "NDSHARE_OFFERS";
/// Others may go through.
const MODE: u32 = 0o711;
/// By these others could put something else in the place of an offer.
const OTHERS_WRITE: u32 = 0o022;
/// A socket on its way to its name. Who has the lock and finds one removes it.
const NEXT: &str = ".next";

/// The directory, open.
struct Directory {
    file: File,
    path: PathBuf,
}

/// Which users and groups may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Read permission for the group and for all others, as permission bits.
    pub mode: u32,
    /// The group.
    pub group: u32,
}

impl Access {
    /// The same for the group that this process acts for, if none is named.
    pub fn new(mode: u32, group: Option<u32>) -> Self {
        Self { mode, group: group.unwrap_or_else(effective_gid) }
    }

    /// Whether somebody may read, as with a file of this mode: who is in the group has the group's rights, whatever all others
    /// have. The owner and root always may.
    pub fn admits(&self, peer: &Peer) -> bool {
        if peer.uid == effective_uid() || peer.uid == 0 {
            return true;
        }
        let is_member = peer.gid == self.group || peer.groups.contains(&self.group);
        self.mode & if is_member { 0o040 } else { 0o004 } != 0
    }

    /// The mode of the socket: to connect is to write.
    fn of_socket(self) -> u32 {
        0o600 | (self.mode & 0o044) | (self.mode & 0o044) >> 1
    }
}

/// A socket of this process that has a name.
#[derive(Debug)]
pub struct Named {
    /// Where connections come in.
    pub socket: Socket,
    file: String,
    inode: u64,
}

impl Named {
    /// Listens under a name of its own, to be shown under `file`. `wait` is called between two tries to get the lock of the
    /// directory: it sleeps a little, or ends the wait by its error.
    ///
    /// # Errors
    /// `Misuse` when a process that lives offers under this name, unless `replace`; `Attach` and `Foreign` when what is in the
    /// place of the directory is not to be trusted; `InvalidValue` for a group that this user is not in; `Os`.
    pub fn new(file: &str, access: Access, replace: bool, wait: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        // BOUND: until the lock is free, or `wait` ends it; a directory that was removed meanwhile is made anew.
        loop {
            // A child that is forked in here would have the lock for its life.
            let made = between_forks(|| match Directory::locked()? {
                Some(directory) => directory.make(file, access, replace).map(Some),
                None => Ok(None),
            })?;
            match made {
                Some(made) => return Ok(made),
                None => wait()?,
            }
        }
    }

    /// Gives it its name, in the place of what has it.
    ///
    /// # Errors
    /// `Os`; `Attach` and `Foreign` as with [`Self::new`].
    pub fn show(&mut self, file: &str) -> Result<()> {
        let failed = |error| Error::os(&format!("making {file}"), error);
        let Some(directory) = Directory::find(effective_uid())? else { return Err(failed(ErrorKind::NotFound.into())) };
        fs::rename(directory.inside(&self.file), directory.inside(file)).map_err(failed)?;
        point(Point::OfferShown);
        file.clone_into(&mut self.file);
        Ok(())
    }

    /// Whether its name is still this socket's, as far as can be seen: others of this user may have taken it away.
    pub fn is_shown(&self) -> bool {
        let Ok(Some(directory)) = Directory::find(effective_uid()) else { return false };
        match fs::symlink_metadata(directory.inside(&self.file)) {
            Ok(facts) => facts.ino() == self.inode,
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    /// Takes the name away, if it is still this socket's.
    pub fn remove(&self) {
        remove_if(&self.file, |facts| facts.ino() == self.inode);
    }
}

/// Takes a name of this user's away, whoever listens there.
pub fn remove(file: &str) {
    remove_if(file, |_| true);
}

/// Whoever cannot have the lock soon leaves it: a name that leads nowhere hinders nobody.
fn remove_if(file: &str, is_it: impl Fn(&Metadata) -> bool) {
    let work = |directory: Directory| {
        let path = directory.inside(file);
        if fs::symlink_metadata(&path).is_ok_and(|facts| is_it(&facts)) {
            let _ = fs::remove_file(path);
            point(Point::OfferRemoved);
        }
        // The last one takes it along.
        let _ = fs::remove_dir(&directory.path);
    };
    for _ in 0..TRIES {
        let is_there = || Directory::find(effective_uid()).is_ok_and(|found| found.is_some());
        let locked = || if is_there() { Directory::locked() } else { Ok(None) };
        if !is_there() || between_forks(|| locked().map_or(true, |found| found.map(work).is_some())) {
            return;
        }
        std::thread::sleep(NAP);
    }
}

/// How often, and after which pause, the lock is tried.
const TRIES: u32 = 50;
const NAP: Duration = Duration::from_millis(10);

/// A connection to what `uid` offers under a name; none when nobody listens there now.
///
/// # Errors
/// `Refused` when this user may not connect; `Attach` and `Foreign` when what is there is not `uid`'s; `Os`.
pub fn connect(uid: u32, file: &str) -> Result<Option<Line>> {
    let Some(directory) = Directory::find(uid)? else { return Ok(None) };
    let shown = directory.path.join(file);
    let facts = match fs::symlink_metadata(directory.inside(file)) {
        Ok(facts) => facts,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::os(&format!("looking at {}", shown.display()), error)),
    };
    check_owner(&facts, uid, &shown)?;
    if !facts.file_type().is_socket() {
        return Err(not_trusted(&shown, "something else than a socket"));
    }
    let socket = match Socket::connect(&directory.inside(file)) {
        Ok(socket) => socket,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(refused(uid)),
        Err(error) => return Err(Error::os(&format!("connecting to {}", shown.display()), error)),
    };
    let peer = socket.peer().map_err(|error| Error::os("asking who listens", error))?;
    if peer.uid != uid {
        return Err(foreign(&shown, peer.uid, uid));
    }
    Ok(Some(Line { socket, pid: peer.pid, end: AtomicU32::new(0) }))
}

/// Nobody listens, or so many wait that the next one has to try again.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED | libc::EAGAIN | libc::ENOTDIR))
}

/// The error of who is not let to read.
#[cold]
pub fn refused(uid: u32) -> Error {
    let me = effective_uid();
    Error::new(
        Kind::Refused,
        format!(
            "expected user {uid} to let user {me} read what it offers, got a refusal: have it published with a mode, and a \
             group, that lets this user in"
        ),
    )
}

/// How a connection to who offers something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was taken back.
    Withdrawn = 1,
    /// The process that offered it is gone.
    Died = 2,
}

/// What is heard over a connection.
#[derive(Debug)]
pub enum Heard {
    /// Nothing yet.
    Nothing,
    /// Nothing more: it ended before it was answered.
    End,
    /// So many bytes, and these files.
    Message(usize, Vec<OwnedFd>),
}

/// A connection to who offers something, which lasts as long as the offer. The other end sees when this process ends.
#[derive(Debug)]
pub struct Line {
    socket: Socket,
    /// The process at the other end, as far as that has a number here.
    pub pid: u32,
    /// How it ended; 0: it has not.
    end: AtomicU32,
}

impl Line {
    /// What is heard first, within `nap`.
    ///
    /// # Errors
    /// `Attach` for a message that is longer than any of ours.
    pub fn first(&self, buffer: &mut [u8], nap: Duration) -> Result<Heard> {
        poll(&[(self.socket.raw(), Awaited::Message)], Some(nap));
        match self.socket.receive(buffer) {
            Ok(None) => Ok(Heard::Nothing),
            Ok(Some((0, _))) => Ok(Heard::End),
            Ok(Some((len, files))) => Ok(Heard::Message(len, files)),
            Err(cause) if cause.kind() == ErrorKind::ConnectionReset => Ok(Heard::End),
            Err(cause) => Err(Error::attach(format!("expected an answer from who offers it, got {cause}"))),
        }
    }

    /// Sleeps until the offer ends, at most for `nap`, and says how it has ended; none: it goes on.
    pub fn wait(&self, nap: Duration) -> Option<End> {
        // RAW: a word of this process.
        match self.end.load(Relaxed) {
            0 => {}
            1 => return Some(End::Withdrawn),
            _ => return Some(End::Died),
        }
        if poll(&[(self.socket.raw(), Awaited::Message)], Some(nap)) != [true] {
            return None;
        }
        let end = match self.socket.receive(&mut [0; 64]) {
            Ok(None) => return None,
            Ok(Some((len, _))) if len > 0 => End::Withdrawn,
            Ok(Some(_)) | Err(_) => End::Died,
        };
        self.end.store(end as u32, Relaxed);
        Some(end)
    }
}

/// Checks a file of `len_bytes` that `uid` handed over: nobody can take its pages away while it is mapped, and through this
/// descriptor it can only be read.
///
/// # Errors
/// `Attach`, saying what is otherwise; `Os` when no descriptor is free.
pub fn check_file(file: BorrowedFd<'_>, uid: u32, len_bytes: u64) -> Result<()> {
    let raw = file.as_raw_fd();
    // SAFETY: commands without an argument, on an open descriptor.
    let (flags, seals) = unsafe { (libc::fcntl(raw, libc::F_GETFL), libc::fcntl(raw, libc::F_GET_SEALS)) };
    let facts = file.try_clone_to_owned().and_then(|file| File::from(file).metadata());
    let facts = facts.map_err(|error| Error::os("fstat", error))?;
    let wrong = match () {
        () if flags < 0 || flags & libc::O_ACCMODE != libc::O_RDONLY => {
            "one that is not open to be read alone".to_owned()
        }
        () if seals < 0 || seals & SEALS != SEALS => format!("one of seals {seals:#x}, which may change its length"),
        () if !facts.is_file() || !is_in_memory(raw) => "one that is no memory file".to_owned(),
        () if facts.uid() != uid => format!("one of user {}", facts.uid()),
        () if facts.len() != len_bytes => format!("one of {} bytes, and it was to have {len_bytes}", facts.len()),
        () => return Ok(()),
    };
    Err(Error::attach(format!("expected a sealed memory file of user {uid}, to be read, got {wrong}: it is not used")))
}

/// By these its pages stay.
const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// The process that has the lock of this user's directory now, if the system tells.
pub fn lock_holder() -> Option<Process> {
    Directory::find(effective_uid()).ok()?.and_then(|found| holder_of(&found.file))
}

impl Directory {
    /// The directory of a user, if there is one.
    fn find(uid: u32) -> Result<Option<Self>> {
        let path = place(uid)?;
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
                return Err(not_trusted(&path, "a symbolic link or a file"));
            }
            Err(error) => return Err(Error::os(&format!("opening {}", path.display()), error)),
        };
        let facts = file.metadata().map_err(|error| Error::os("fstat", error))?;
        check_owner(&facts, uid, &path)?;
        if facts.mode() & OTHERS_WRITE != 0 {
            return Err(not_trusted(
                &path,
                &format!("one of mode {:o}, which others may write", facts.mode() & 0o7777),
            ));
        }
        Ok(Some(Self { file, path }))
    }

    /// This user's, which is made if there is none, while this process may change what is in it; none while another one may.
    fn locked() -> Result<Option<Self>> {
        let path = place(effective_uid())?;
        match DirBuilder::new().mode(MODE).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::os(&format!("making {}", path.display()), error));
            }
            _ => point(Point::OfferFolder),
        }
        let Some(found) = Self::find(effective_uid())? else { return Ok(None) };
        let failed = |error| Error::os(&format!("opening {}", found.path.display()), error);
        let link = format!("/proc/self/fd/{}", found.file.as_raw_fd());
        // Whatever the umask took from it.
        if found.file.metadata().map_err(failed)?.mode() & MODE != MODE {
            fs::set_permissions(&link, Permissions::from_mode(MODE)).map_err(failed)?;
        }
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&link).map_err(failed)?;
        match file.try_lock() {
            Ok(()) if file.metadata().is_ok_and(|facts| facts.nlink() > 0) => Ok(Some(Self { file, path: found.path })),
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::os("locking the directory of offers", error)),
        }
    }

    fn make(&self, file: &str, access: Access, replace: bool) -> Result<Named> {
        self.tidy();
        if !replace && is_listening(&self.inside(file)) {
            return Err(Error::new(
                Kind::Misuse,
                format!(
                    "expected {} to be free, got an offer of a process that lives: choose another name, unpublish that one, or \
                     replace it (replace=True)",
                    self.path.join(file).display()
                ),
            ));
        }
        let failed = |error| Error::os(&format!("making {}", self.path.join(file).display()), error);
        let file = format!("{NEXT}-{:016x}", random_u64());
        let next = self.inside(&file);
        let socket = Socket::listen(&next, access.of_socket()).map_err(failed)?;
        point(Point::OfferMade);
        let dressed = self.dress(&next, access).and_then(|()| fs::symlink_metadata(&next));
        match dressed {
            Ok(facts) => {
                point(Point::OfferDressed);
                Ok(Named { socket, file, inode: facts.ino() })
            }
            Err(error) => {
                let _ = fs::remove_file(next);
                Err(match error.kind() {
                    ErrorKind::PermissionDenied => Error::value(format!(
                        "expected a group that this process is in, got group {}: name another one",
                        access.group
                    )),
                    _ => failed(error),
                })
            }
        }
    }

    /// Gives a new socket its group and, whatever the umask says, its mode.
    fn dress(&self, socket: &Path, access: Access) -> io::Result<()> {
        chown(socket, None, Some(access.group))?;
        fs::set_permissions(socket, Permissions::from_mode(access.of_socket()))
    }

    /// Removes what the dead have left.
    fn tidy(&self) {
        let Ok(listed) = fs::read_dir(self.inside(".")) else { return };
        for entry in listed.flatten() {
            let refuses = |error: &io::Error| error.raw_os_error() == Some(libc::ECONNREFUSED);
            if Socket::connect(&entry.path()).is_err_and(|error| refuses(&error)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// A path that leads into this very directory, whatever is at its own path by now.
    fn inside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.file.as_raw_fd()))
    }
}

/// Whether a process listens there, or what is there is none of ours.
fn is_listening(path: &Path) -> bool {
    match Socket::connect(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED)),
    }
}

/// Where the directory of a user is, or would be.
fn place(uid: u32) -> Result<PathBuf> {
    let given = std::env::var_os(PLACE_VARIABLE).filter(|given| !given.is_empty()).map(PathBuf::from);
    let usual = [PathBuf::from("/dev/shm"), PathBuf::from("/tmp")];
    let places = given.as_ref().map_or(&usual[..], std::slice::from_ref);
    // The usual places are the system's. Of another one the owner may put in the place of anything what it likes.
    let is_trusted =
        |path: &Path| fs::symlink_metadata(path).is_ok_and(|facts| given.is_none() || [0, uid].contains(&facts.uid()));
    let found = places.iter().find(|path| path.is_absolute() && keeps_owners_apart(path) && is_trusted(path));
    let found = found.ok_or_else(|| {
        Error::attach(format!(
            "expected a directory for offers in which nobody can take away what is another's, got none: {places:?} are not \
             such; set {PLACE_VARIABLE} to one of root's or of user {uid}'s, of mode 1777, or that nobody else may write"
        ))
    })?;
    Ok(found.join(format!("ndshare-{uid}-offers")))
}

fn check_owner(facts: &Metadata, uid: u32, path: &Path) -> Result<()> {
    if facts.uid() == uid { Ok(()) } else { Err(foreign(path, facts.uid(), uid)) }
}

#[cold]
fn foreign(path: &Path, got: u32, expected: u32) -> Error {
    let message = format!(
        "{} belongs to user {got}: expected it to be user {expected}'s; have its owner remove it, or set {PLACE_VARIABLE} to \
         another directory in all programs that are to meet",
        path.display()
    );
    Foreign { pid: None, uid: Some(got), message: message.into() }.into()
}

#[cold]
fn not_trusted(path: &Path, got: &str) -> Error {
    Error::attach(format!(
        "{} is not trusted: expected what ndshare makes there, a directory of mode 711 with sockets, got {got}; remove it",
        path.display()
    ))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_the_group_has_the_rights_of_the_group() {
        let peer = |uid, gid, groups: &[u32]| Peer { pid: 1, uid, gid, groups: groups.to_vec() };
        let [stranger, member, guest] = [peer(7, 8, &[]), peer(7, 50, &[]), peer(7, 8, &[3, 50])];
        let admitted = |mode| [&stranger, &member, &guest].map(|peer| Access::new(mode, Some(50)).admits(peer));
        assert_eq!(admitted(0o640), [false, true, true]);
        assert_eq!(admitted(0o604), [true, false, false]);
        assert_eq!(admitted(0o644), [true; 3]);
        assert!(Access::new(0o640, Some(50)).admits(&peer(effective_uid(), 8, &[])));
        assert_eq!([0o640, 0o604, 0o644].map(|mode| Access::new(mode, None).of_socket()), [0o660, 0o606, 0o666]);
    }
}
