//! Files that have a path: opened without being fooled, and made as a whole or not at all.
//!
//! What is found is believed only if it is a regular file of this user's that nobody else may write. A new file is filled
//! while it has no name, and gets it by one link, which fails where the name is taken: nobody sees half of one.

use super::page::PAGE_BYTES;
use super::{effective_uid, random_u64};
use crate::error::{ArenaFull, Error, Foreign, Result};
use crate::layout::human;
use std::ffi::CString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The bit of an arena's id that says that its file has a path: so who looks for another need not look into every file.
pub const HAS_PATH: u64 = 1 << 63;
/// The permission bits by which somebody but the owner could write.
const OTHERS_WRITE: u32 = 0o022;

/// The file at `path`, for reading and writing; none when there is none.
///
/// # Errors
/// `Attach` for what is no regular file, what others may write and what cannot be opened; `Foreign` for another user's.
pub fn open(path: &Path) -> Result<Option<File>> {
    open_for(path, OpenOptions::new().read(true).write(true))
}

/// The same, for reading alone.
///
/// # Errors
/// As [`open`].
pub fn open_to_read(path: &Path) -> Result<Option<File>> {
    open_for(path, OpenOptions::new().read(true))
}

fn open_for(path: &Path, access: &OpenOptions) -> Result<Option<File>> {
    let found = match OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(not_opened(path, error)),
    };
    let facts = found.metadata().map_err(|error| not_opened(path, error))?;
    check(&facts, path)?;
    // Not by the path, where something else may be by now.
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    access.open(link).map(Some).map_err(|error| match error.kind() {
        ErrorKind::NotFound => without_proc(path, error),
        _ => not_opened(path, error),
    })
}

/// The plain file to which a link leads just now, for reading alone; none for anything else. Whoever owns it may have put a
/// pipe there since somebody looked, so nothing is waited for, and no device is opened.
pub fn open_plain(link: &Path) -> Option<File> {
    let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(link).ok()?;
    found.metadata().ok().filter(Metadata::is_file)?;
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()
}

/// The first bytes of a file, as many as there are.
pub fn first_bytes<const N: usize>(file: &File) -> io::Result<([u8; N], usize)> {
    let (mut bytes, mut len) = ([0; N], 0);
    // BOUND: each round reads a byte at least, or ends.
    while len < N {
        match file.read_at(&mut bytes[len..], len as u64)? {
            0 => break,
            more => len += more,
        }
    }
    Ok((bytes, len))
}

/// Writes the id, the second word of an arena's file.
pub fn write_id(file: &File, id: u64) -> io::Result<()> {
    file.write_all_at(&id.to_le_bytes(), 8)
}

fn check(facts: &Metadata, path: &Path) -> Result<()> {
    if !facts.is_file() {
        return Err(refused(path, what(facts)));
    }
    let (uid, me) = (facts.uid(), effective_uid());
    if uid != me {
        let path = path.display();
        let message = format!(
            "{path} belongs to uid {uid}, and this process is uid {me}: an arena is one user's; choose another path"
        );
        return Err(Foreign { pid: None, uid: Some(uid), message: message.into() }.into());
    }
    match facts.mode() & OTHERS_WRITE {
        0 => Ok(()),
        _ => Err(refused(path, &format!("one of mode {:o}, which others may write", facts.mode() & 0o7777))),
    }
}

fn what(facts: &Metadata) -> &'static str {
    match facts.file_type() {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cold]
fn refused(path: &Path, got: &str) -> Error {
    Error::attach(format!(
        "{} is not trusted: expected a regular file of this user's that nobody else may write, got {got}; choose another path",
        path.display()
    ))
}

#[cold]
fn not_opened(path: &Path, cause: io::Error) -> Error {
    let next = match (cause.raw_os_error(), cause.kind()) {
        (Some(libc::EMFILE), _) => "no descriptor is free: close files, or raise ulimit -n",
        (Some(libc::ENFILE), _) => "the machine's table of files is full: close files, or raise fs.file-max",
        (_, ErrorKind::NotFound) => "make the directory first",
        (_, ErrorKind::PermissionDenied) => {
            "expected a file, and a directory, of this user's with rights to read and write"
        }
        _ => "choose another path",
    };
    let message = format!("{} cannot be opened ({cause}): {next}", path.display());
    Error::attach_by(cause, message)
}

/// A file that is there, and that cannot be opened by its link in `/proc`.
#[cold]
pub(super) fn without_proc(path: &Path, cause: io::Error) -> Error {
    let message = format!("{} cannot be opened ({cause}): expected /proc to be mounted; mount it here", path.display());
    Error::attach_by(cause, message)
}

/// A file that is on its way to a path: no name leads to it yet.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    /// Its name meanwhile, where the file system has no files without one.
    temporary: Option<PathBuf>,
}

impl NewFile {
    /// An empty file of mode 0600 in the directory of `path`, whatever the umask is.
    ///
    /// # Errors
    /// `Attach` when there is no such directory, or nothing may be made there.
    pub fn on_the_way_to(path: &Path) -> Result<Self> {
        let place = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let (file, temporary) = match options.clone().custom_flags(libc::O_TMPFILE).open(place) {
            Ok(file) => (file, None),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
                let temporary = place.join(format!(".ndshare-{:016x}", random_u64()));
                let file = options.create_new(true).custom_flags(libc::O_NOFOLLOW).open(&temporary);
                (file.map_err(|error| not_opened(path, error))?, Some(temporary))
            }
            Err(error) => return Err(not_opened(path, error)),
        };
        let new = Self { file, path: path.to_owned(), temporary };
        let mode = new.file.set_permissions(Permissions::from_mode(0o600));
        mode.map_err(|error| not_opened(path, error)).map(|()| new)
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name. False: the name is taken.
    ///
    /// # Errors
    /// `Attach` when it cannot be made.
    pub fn name_it(self) -> Result<bool> {
        let linked = match &self.temporary {
            Some(temporary) => fs::hard_link(temporary, &self.path),
            None => link_nameless(&self.file, &self.path),
        };
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(not_opened(&self.path, error)),
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

fn link_nameless(file: &File, path: &Path) -> io::Result<()> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: two NUL-terminated strings that outlive the call.
    let failed = unsafe {
        libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Checks that the file system can promise space and take it back: on the first page of an empty file.
///
/// # Errors
/// `Attach` when it cannot.
pub(super) fn check_promises(file: &File, path: &Path) -> Result<()> {
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    match allocate(file.as_raw_fd(), punch, &(0..PAGE_BYTES)) {
        Ok(()) => reserve(file.as_raw_fd(), path, &(0..PAGE_BYTES)),
        Err(error) => Err(no_promises(path, error)),
    }
}

#[cold]
fn no_promises(path: &Path, cause: io::Error) -> Error {
    let message = format!(
        "the file system of {} cannot set space aside and take it back ({cause}): expected one such as tmpfs, ext4 or xfs; \
         choose another path",
        path.display()
    );
    Error::attach_by(cause, message)
}

/// Sets space aside for `range` of a file, so that no write to it can fail for want of space. What is there stays.
///
/// # Errors
/// `ArenaFull` when the file system has no space; `Attach` when it cannot do that.
pub(super) fn reserve(fd: RawFd, path: &Path, range: &Range<u64>) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    allocate(fd, 0, range).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => full(fd, path, range.end - range.start),
        _ => no_promises(path, error),
    })
}

fn allocate(fd: RawFd, mode: libc::c_int, range: &Range<u64>) -> io::Result<()> {
    let (start, len) = (range.start.cast_signed(), (range.end - range.start).cast_signed());
    // BOUND: each round was interrupted by a signal.
    loop {
        // SAFETY: numbers only; a bad descriptor is an error.
        if unsafe { libc::fallocate(fd, mode, start, len) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The error of a file system that has no space for `need` bytes more.
#[cold]
pub(super) fn full(fd: RawFd, path: &Path, need: u64) -> Error {
    let facts = facts_of(fd);
    let free = facts.map(|facts| facts.f_bavail.saturating_mul(facts.f_bsize.cast_unsigned()));
    let left = free.map_or_else(|| "no room".to_owned(), human);
    let (place, limit) = (path.display(), format!("the file system of {}", path.display()));
    let message = format!(
        "the file system of {place} has {left} left, and {} more must be set aside: free space there",
        human(need)
    );
    ArenaFull { needed_bytes: Some(need), free_bytes: free, limit, ..ArenaFull::saying(message) }.into()
}

/// Whether the file is on a RAM drive.
pub(super) fn is_in_memory(fd: RawFd) -> bool {
    facts_of(fd).is_some_and(|facts| facts.f_type == libc::TMPFS_MAGIC)
}

fn facts_of(fd: RawFd) -> Option<libc::statfs> {
    // SAFETY: all zeros is a valid `statfs`, a plain struct of integers.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `facts` is a live struct of this frame; a bad descriptor is an error, not a fault.
    (unsafe { libc::fstatfs(fd, &mut facts) } == 0).then_some(facts)
}
