//! A directory of this user's own, in which processes without a parent in common find each other.
//!
//! It is `ndshare` in `XDG_RUNTIME_DIR`, else in `/run/user/<uid>`, else `ndshare-<uid>` in `/dev/shm` or `/tmp`. It must
//! belong to this user, and nobody else may have a right to it. What is in it is believed only if it is a file of this
//! user's with one name, and nobody else may write it: no symlink, no hard link.
//!
//! An entry is a small file. Its bytes are written before it has a name, so whoever sees it sees all of it. Who changes
//! entries has the lock of the directory, which the kernel lets go with its holder. The last entry that goes takes the
//! directory along.

use super::effective_uid;
use super::fork::{at_fork, between_forks};
use super::kill::{Point, point};
use super::path::without_proc;
use crate::error::{Error, Foreign, Process, Result};
use crate::prim::{
    AtomicBool, AtomicI32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What an entry may have.
pub const MOST_BYTES: usize = 1 << 16;
/// The name of an entry that is about to replace another one. Who has the lock and finds one removes it.
const NEXT: &str = ".next";
/// The permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// The directory, open.
#[derive(Debug)]
pub struct Directory {
    file: File,
    path: PathBuf,
}

/// The directory while this process may change what is in it.
#[derive(Debug)]
pub struct LockedDirectory(Directory);

impl Directory {
    /// The directory, if there is one.
    ///
    /// # Errors
    /// `Attach` when what is in its place is not to be trusted, `Foreign` when it is another user's.
    pub fn find() -> Result<Option<Self>> {
        let path = place()?;
        Ok(open(&path)?.map(|file| Self { file, path }))
    }

    fn find_or_make() -> Result<Self> {
        // BOUND: each round somebody else has removed what this one made.
        loop {
            let path = place()?;
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::os(&format!("making {}", path.display()), error));
                }
                _ => point(Point::DirectoryMade),
            }
            if let Some(file) = open(&path)? {
                return Ok(Self { file, path });
            }
        }
    }

    /// The process that has its lock now, if the system tells; another one may have it a moment later.
    pub fn lock_holder(&self) -> Option<Process> {
        holder_of(&self.file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of an entry; none when there is none.
    ///
    /// # Errors
    /// `Attach` for what is not to be trusted, `Foreign` for another user's; `Os`.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let shown = self.path.join(name);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.inside(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(refused(&shown, "a symbolic link")),
            Err(error) => {
                // Such as a socket, or what another user lets nobody open.
                fs::symlink_metadata(self.inside(name)).map_or(Ok(()), |facts| check_entry(&facts, &shown))?;
                return Err(Error::os(&format!("opening {}", shown.display()), error));
            }
        };
        let facts = file.metadata().map_err(|error| Error::os("fstat", error))?;
        if facts.nlink() == 0 {
            // It was removed or replaced just now.
            return Ok(None);
        }
        check_entry(&facts, &shown)?;
        let mut bytes = Vec::new();
        let read = file.take(MOST_BYTES as u64).read_to_end(&mut bytes);
        read.map_err(|error| Error::os(&format!("reading {}", shown.display()), error))?;
        Ok(Some(bytes))
    }

    /// The names of its entries, in order, whatever they are.
    ///
    /// # Errors
    /// `Os`.
    pub fn names(&self) -> Result<Vec<String>> {
        let listed = fs::read_dir(self.inside("."));
        let listed = listed.map_err(|error| Error::os(&format!("listing {}", self.path.display()), error))?;
        let names = listed.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        Ok(names)
    }

    /// A path that leads into this very directory, whatever is at its own path by now.
    fn inside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.file.as_raw_fd()))
    }

    fn has_a_name(&self) -> bool {
        self.file.metadata().is_ok_and(|facts| facts.nlink() > 0)
    }
}

impl LockedDirectory {
    /// Waits for the lock of the directory, which is made if there is none. `wait` is called between two tries: it sleeps
    /// a little, or ends the wait by its error.
    ///
    /// # Errors
    /// As [`Directory::find`]; `Os`; what `wait` says.
    pub fn lock(wait: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        watch_forks()?;
        // BOUND: until the lock is free, or `wait` ends it; a directory that was removed meanwhile is made anew.
        loop {
            match Self::try_lock(Directory::find_or_make()?)? {
                Some(locked) if locked.0.has_a_name() => {
                    // What somebody left who died in here.
                    let _ = fs::remove_file(locked.0.inside(NEXT));
                    point(Point::DirectoryLocked);
                    return Ok(locked);
                }
                Some(_) => {}
                None => wait()?,
            }
        }
    }

    fn try_lock(directory: Directory) -> Result<Option<Self>> {
        // A child that is forked in here would have the lock as well, for its life.
        let taken = between_forks(|| {
            let taken = directory.file.try_lock();
            if taken.is_ok() {
                HOLDER.store(directory.file.as_raw_fd(), Release);
            }
            taken
        });
        match taken {
            Ok(()) => Ok(Some(Self(directory))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::os("locking the registry of names", error)),
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.0
    }

    /// Makes an entry, or puts it in the place of the one of this name.
    ///
    /// # Errors
    /// `Os`.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let written = self.write_next(bytes).and_then(|()| {
            point(Point::DirectoryLinked);
            fs::rename(self.0.inside(NEXT), self.0.inside(name))
        });
        written.map_err(|error| Error::os(&format!("writing {}", self.0.path.join(name).display()), error))?;
        point(Point::DirectoryRenamed);
        Ok(())
    }

    fn write_next(&self, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(self.0.inside("."))?;
        // Whatever the umask says.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        point(Point::DirectoryWritten);
        let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let to = CString::new(NEXT)?;
        let directory = self.0.file.as_raw_fd();
        // SAFETY: two NUL-terminated strings that outlive the call, and a descriptor that this frame keeps open.
        let failed = unsafe {
            libc::linkat(libc::AT_FDCWD, from.as_ptr(), directory, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) != 0
        };
        match io::Error::last_os_error() {
            _ if !failed => Ok(()),
            // What a writer leaves that was killed is a file, and was removed when the lock was taken.
            error if error.kind() == ErrorKind::AlreadyExists => Err(io::Error::new(
                error.kind(),
                format!("{} is in the way, and is no file of ours: remove it", self.0.path.join(NEXT).display()),
            )),
            error => Err(error),
        }
    }

    /// Removes an entry; says whether there was one.
    ///
    /// # Errors
    /// `Os`.
    pub fn remove(&self, name: &str) -> Result<bool> {
        match fs::remove_file(self.0.inside(name)) {
            Ok(()) => {
                point(Point::DirectoryRemoved);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::os(&format!("removing {}", self.0.path.join(name).display()), error)),
        }
    }
}

impl Drop for LockedDirectory {
    fn drop(&mut self) {
        // It stays while anything is in it. In the place of one that was removed there may be another one, which somebody
        // else has the lock of.
        if self.0.has_a_name() {
            let _ = fs::remove_dir(&self.0.path);
        }
        // Not by closing alone: a child that is forked before that has the description, too.
        let _ = self.0.file.unlock();
        let _ = HOLDER.compare_exchange(self.0.file.as_raw_fd(), NOBODY, AcqRel, Relaxed);
    }
}

const NOBODY: i32 = -1;
/// The descriptor by which a thread of this process has the lock.
static HOLDER: AtomicI32 = AtomicI32::new(NOBODY);

/// From now on a forked child lets the lock be that a thread of its parent has.
fn watch_forks() -> Result<()> {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    if !IS_DONE.load(Acquire) {
        at_fork(nothing, nothing, in_child)?;
        IS_DONE.store(true, Release);
    }
    Ok(())
}

extern "C" fn nothing() {}

extern "C" fn in_child() {
    let holder = HOLDER.swap(NOBODY, AcqRel);
    if holder != NOBODY {
        // SAFETY: the thread that has this descriptor is not in the child, so it is nobody's here.
        unsafe { libc::close(holder) };
    }
}

/// Where the directory is, or would be.
fn place() -> Result<PathBuf> {
    let uid = effective_uid();
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = [given.unwrap_or_default(), PathBuf::from(format!("/run/user/{uid}"))];
    if let Some(runtime) = runtime.iter().find(|path| path.is_absolute() && is_mine_alone(path, uid)) {
        return Ok(runtime.join("ndshare"));
    }
    let common = ["/dev/shm", "/tmp"].into_iter().find(|path| keeps_owners_apart(Path::new(path)));
    let common = common.ok_or_else(|| {
        Error::attach(
            "expected a directory for names, got none: XDG_RUNTIME_DIR is not this user's alone, and anybody may replace \
             what is in /dev/shm and /tmp; set XDG_RUNTIME_DIR to a directory of mode 0700",
        )
    })?;
    Ok(Path::new(common).join(format!("ndshare-{uid}")))
}

fn is_mine_alone(path: &Path, uid: u32) -> bool {
    let mine = |facts: Metadata| facts.is_dir() && facts.uid() == uid && facts.mode() & OTHERS == 0;
    fs::symlink_metadata(path).is_ok_and(mine)
}

/// Whether nobody but its owner can remove what is in a directory that all may write.
pub(super) fn keeps_owners_apart(path: &Path) -> bool {
    let apart = |facts: Metadata| facts.is_dir() && (facts.mode() & libc::S_ISVTX != 0 || facts.mode() & 0o022 == 0);
    fs::symlink_metadata(path).is_ok_and(apart)
}

/// The process that has a file locked as a whole, as the kernel lists it: its inode, and the process that took the lock. Some
/// file systems (btrfs, overlayfs) have another number there than they tell for their device, so that is not asked for.
pub(super) fn holder_of(file: &File) -> Option<Process> {
    let inode = file.metadata().ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| pid_of_lock(line, inode)).map(Process::of)
}

/// `1: FLOCK  ADVISORY  WRITE 4711 00:2d:1234 0 EOF`: the process, where the line is of this inode. Behind an arrow stand those
/// who wait.
fn pid_of_lock(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, _, _, pid, place) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let is_it = kind == "FLOCK" && place.rsplit(':').next()?.parse() == Ok(inode);
    if is_it { pid.parse().ok() } else { None }
}

/// Opens the directory, if there is one.
fn open(path: &Path) -> Result<Option<File>> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY;
    let found = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => {
            return Err(refused(path, "a symbolic link or a file, where a directory of this user's should be"));
        }
        Err(error) => return Err(Error::os(&format!("opening {}", path.display()), error)),
    };
    let facts = found.metadata().map_err(|error| Error::os("fstat", error))?;
    check_owner(&facts, path)?;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let opened = || {
        // A umask may have taken rights from whoever made it, who may have died since.
        if facts.mode() & 0o700 != 0o700 {
            fs::set_permissions(&link, Permissions::from_mode(0o700))?;
        }
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&link)
    };
    match opened() {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound && found.metadata().is_ok_and(|now| now.nlink() == 0) => {
            Ok(None)
        }
        // Not that there is no directory: whoever makes it would be told so again and again.
        Err(error) if error.kind() == ErrorKind::NotFound => Err(without_proc(path, error)),
        Err(error) => Err(Error::os(&format!("opening {}", path.display()), error)),
    }
}

fn check_entry(facts: &Metadata, path: &Path) -> Result<()> {
    check_owner(facts, path)?;
    match facts {
        facts if !facts.is_file() => Err(refused(path, "something else than a file")),
        facts if facts.nlink() > 1 => Err(refused(path, "a file with several hard links")),
        facts if facts.len() > MOST_BYTES as u64 => Err(refused(path, "a file that is larger than any of ours")),
        _ => Ok(()),
    }
}

/// Checks that a file is this user's, and nobody else's business.
fn check_owner(facts: &Metadata, path: &Path) -> Result<()> {
    let (uid, me) = (facts.uid(), effective_uid());
    if uid != me {
        let path = path.display();
        let message = format!(
            "{path} belongs to uid {uid}, and this process is uid {me}: expected it to be this user's; have its owner \
             remove it, or set XDG_RUNTIME_DIR to a directory of mode 0700"
        );
        return Err(Foreign { pid: None, uid: Some(uid), message: message.into() }.into());
    }
    match facts.mode() & OTHERS {
        0 => Ok(()),
        _ => Err(refused(path, &format!("one of mode {:o}, to which others have a right", facts.mode() & 0o7777))),
    }
}

#[cold]
fn refused(path: &Path, got: &str) -> Error {
    Error::attach(format!(
        "{} is not trusted: expected what ndshare makes there, of this user's and for this user alone, got {got}; remove it",
        path.display()
    ))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_tells_who_has_a_lock() {
        let told = |line| pid_of_lock(line, 1234);
        assert_eq!(told("1: FLOCK  ADVISORY  WRITE 4711 00:2d:1234 0 EOF"), Some(4711));
        assert_eq!(told("1: FLOCK  ADVISORY  WRITE 4711 00:2d:12345 0 EOF"), None);
        assert_eq!(told("1: OFDLCK ADVISORY  WRITE -1 00:2d:1234 0 EOF"), None);
        assert_eq!(told("1: -> FLOCK  ADVISORY  WRITE 4711 00:2d:1234 0 EOF"), None);
        assert_eq!(told(""), None);
    }

    /// It was taken for a directory that is gone, and made again and again without an end.
    #[test]
    fn what_cannot_be_opened_without_proc_is_not_taken_for_gone() {
        let root = std::env::temp_dir().join(format!("ndshare-test-{}", super::super::random_u64()));
        DirBuilder::new().mode(0o700).create(&root).unwrap();
        DirBuilder::new().mode(0o700).create(root.join("folder")).unwrap();
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(root.join("file")).unwrap();
        let place = CString::new(root.to_str().unwrap()).unwrap();
        let seen = std::thread::spawn(move || {
            // SAFETY: a NUL-terminated string that outlives the call. This thread alone has another root from here on.
            let is_inside = unsafe { libc::unshare(libc::CLONE_FS) == 0 && libc::chroot(place.as_ptr()) == 0 };
            is_inside.then(|| [open(Path::new("/folder")), super::super::path::open(Path::new("/file"))])
        });
        // None without the rights to do that.
        for found in seen.join().unwrap().into_iter().flatten() {
            let error = found.unwrap_err().to_string();
            assert!(error.contains("expected /proc to be mounted"), "{error}");
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn who_got_the_lock_of_a_directory_that_was_removed_leaves_the_next_one_alone() {
        let path = std::env::temp_dir().join(format!("ndshare-test-{}", super::super::random_u64()));
        let make = || {
            DirBuilder::new().mode(0o700).create(&path).unwrap();
            Directory { file: open(&path).unwrap().unwrap(), path: path.clone() }
        };
        let late = make();
        fs::remove_dir(&path).unwrap();
        let next = LockedDirectory::try_lock(make()).unwrap().unwrap();
        drop(LockedDirectory::try_lock(late).unwrap().unwrap());
        next.write("name", b"bytes").unwrap();
        assert!(next.remove("name").unwrap());
        drop(next);
        assert!(!path.exists(), "the last entry takes it along");
    }
}
