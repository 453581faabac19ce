//! The memory file behind an arena, and the locks on its bytes that tell who is alive.
//!
//! The file is a sealed memfd: it has no name in any file system, ignores the size of `/dev/shm`, and nobody can
//! shrink it under a reader. One descriptor is kept, at a high number, for opening new descriptions and for
//! asking about locks. Should the program close it (daemons close everything), it is found again through this process's
//! own mappings where that is permitted, or through any process that still has the file open; views need no descriptor
//! at all.
//!
//! Life is an OFD write lock on one byte, taken through a description of its own, which only a mapping keeps: it
//! ends when the address space ends, by whatever death, and not before. Bytes beyond the end of the file can be locked
//! as well.
//!
//! A file with a path serves as well (see `path`). It has no seals, so its length is looked at again before more of it is
//! used, and it is told from others by what stands in it, because its link in `/proc` says only where it was opened.
//!
//! A file may have another one as its **rest**: its bytes come behind the first one's, wherever both are mapped. Locks and
//! signs of life are on the first alone, so the rest can be shown to others.

use super::descriptor::move_high;
use super::fork::between_forks;
use super::page::{self, Page};
use super::path::{self, HAS_PATH, NewFile};
use super::{effective_uid, last_errno, monotonic, proc, read_kernel_text};
use crate::error::{Error, Foreign, Process, Result, Unreachable};
use crate::prim::{AtomicI32, AtomicU64, Ordering};
use std::fs::{DirEntry, File, Metadata, metadata, read_dir, read_link};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How long a search that found nothing counts: it looks into every process of the machine.
const LOST_FOR_MS: u64 = 1000;

/// So many processes that have a file are told.
const MOST_TOLD: usize = 4;

/// What `stat` says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    uid: u32,
    /// The length of the file in bytes.
    pub len_bytes: u64,
    /// Bytes that are really in memory.
    pub committed_bytes: u64,
}

/// A file of this process in which an arena lies: a sealed memory file, or one with a path.
#[derive(Debug)]
pub struct MemFile {
    name: String,
    /// Where it was opened, if it has a path.
    path: Option<PathBuf>,
    /// Whether its pages are memory, and not those of a disk.
    is_in_memory: bool,
    /// The kept descriptor; checked against `identity` at each use, because the program may have closed it.
    fd: AtomicI32,
    identity: Identity,
    /// The descriptor is closed, and is not looked for before this time (monotonic ms).
    lost_until_ms: AtomicU64,
    /// The file whose bytes come behind this one's.
    rest: Option<Box<MemFile>>,
}

impl MemFile {
    /// A new file of `len_bytes` zeros, readable and writable by this user alone, of a length that never changes.
    ///
    /// # Errors
    /// `Os` when the kernel refuses. The caller has checked `RLIMIT_FSIZE`: exceeding that is a signal.
    pub fn create(name: &str, len_bytes: u64) -> Result<Self> {
        let fd = create_memfd(name)?;
        let raw = fd.as_raw_fd();
        // SAFETY: the four calls take a descriptor that this frame owns, and no memory.
        let failed = unsafe {
            libc::fchmod(raw, 0o600) != 0
                || libc::ftruncate(raw, len_bytes as libc::off_t) != 0
                || libc::fcntl(raw, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW) != 0
                || libc::fcntl(raw, libc::F_ADD_SEALS, libc::F_SEAL_SEAL) != 0
        };
        if failed {
            return Err(Error::last_os("making the memory file"));
        }
        Self::keep(fd, name, None)
    }

    /// The file of `len_bytes` zeros that is on its way to `path`. Its length is a promise, and no seal.
    ///
    /// # Errors
    /// `Attach` when the file system cannot do what an arena needs; `ArenaFull` when it has no space; `Os`. The caller has
    /// checked `RLIMIT_FSIZE`.
    pub fn create_at(path: &Path, new: &NewFile, name: &str, len_bytes: u64) -> Result<Self> {
        let sized = new.file().set_len(len_bytes);
        sized.map_err(|error| Error::os(&format!("giving {} its length", path.display()), error))?;
        path::check_promises(new.file(), path)?;
        Self::open_at(path, new.file(), name)
    }

    /// The file that was opened at `path`.
    ///
    /// # Errors
    /// `Os` when no descriptor is left.
    pub fn open_at(path: &Path, file: &File, name: &str) -> Result<Self> {
        let fd = file.try_clone().map_err(|error| Error::os("keeping the arena's file open", error))?;
        Self::keep(fd.into(), name, Some(path.to_owned()))
    }

    /// The file called `name`, through the descriptor `hint_fd` of the process `hint_pid`, or through any process
    /// of this user that has it open.
    ///
    /// # Errors
    /// `Unreachable` when no process has it open that this one may look into; `Foreign` when it is another user's;
    /// `Attach` when it can't be opened, or no descriptor is left to look for it.
    pub fn find(name: &str, hint_pid: u32, hint_fd: i32) -> Result<Self> {
        let hint = format!("/proc/{hint_pid}/fd/{hint_fd}");
        refuse_foreign(name, hint_pid, &hint)?;
        let fd = open_link(name, &hint).map_or_else(|| search(name, Some(hint_pid)), |fd| Ok(Some(fd)))?;
        let failure = || if leads_to(name, &hint) { closed_link(&hint) } else { unreachable_file(name, hint_pid) };
        let fd = fd.ok_or_else(failure)?;
        if let Some(found) = identity(fd.as_raw_fd()).filter(|found| found.uid != effective_uid()) {
            return Err(foreign(name, hint_pid, found.uid));
        }
        if let Some(path) = path_of(fd.as_raw_fd()) {
            return Self::keep(fd, name, Some(path));
        }
        let seals = fcntl(fd.as_raw_fd(), libc::F_GET_SEALS)?;
        if seals & libc::F_SEAL_SHRINK == 0 {
            return Err(Error::attach(format!(
                "expected {name} to be sealed against shrinking, got seals {seals:#x}: it is no arena"
            )));
        }
        Self::keep(fd, name, None)
    }

    fn keep(fd: OwnedFd, name: &str, path: Option<PathBuf>) -> Result<Self> {
        proc::keep();
        let kept = move_high(fd);
        let identity = identity(kept.as_raw_fd()).ok_or_else(|| Error::last_os("fstat of the memory file"))?;
        let is_in_memory = path.is_none() || path::is_in_memory(kept.as_raw_fd());
        let (name, fd) = (name.into(), AtomicI32::new(kept.into_raw_fd()));
        Ok(Self { name, path, is_in_memory, fd, identity, lost_until_ms: AtomicU64::new(0), rest: None })
    }

    /// The same file, with another one behind it.
    pub fn with_rest(mut self, rest: Self) -> Self {
        self.rest = Some(Box::new(rest));
        self
    }

    /// The file behind this one, if its bytes are in two.
    pub fn rest(&self) -> Option<&Self> {
        self.rest.as_deref()
    }

    /// This file, and the one behind it.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.rest())
    }

    /// The file that has the byte at `offset` of both, and where.
    pub(super) fn piece_at(&self, offset: u64) -> (&Self, u64) {
        match self.rest() {
            Some(rest) if offset >= self.own_len() => (rest, offset - self.own_len()),
            _ => (self, offset),
        }
    }

    /// The same file under another name.
    pub fn called(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    /// Where it was opened; none for a memory file, which has no path.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether its pages are memory, and not those of a disk.
    pub(super) fn is_in_memory(&self) -> bool {
        self.is_in_memory
    }

    /// What `/proc/<pid>/maps` calls it.
    pub fn name_in_maps(&self) -> String {
        self.path.as_ref().map_or_else(|| self.name.clone(), |path| path.display().to_string())
    }

    /// Whether both are the same file.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.identity.is_same_file(&other.identity)
    }

    /// Checks that a file with a path still has the length that it was mapped with: nothing seals it.
    ///
    /// # Errors
    /// `Poisoned` when somebody changed it. What is beyond its end must not be touched: that is a SIGBUS.
    pub fn check_len(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let (path, len) = (path.display(), self.len_bytes());
        match identity(self.valid()?).map_or(0, |now| now.len_bytes) {
            now if now == len => Ok(()),
            now => Err(Error::written_over(
                "the file's length",
                format!(
                    "expected {path} to have {len} bytes, got {now}: another program changed its length while it was in use; \
                     save what you need and make another file"
                ),
            )),
        }
    }

    /// Sets space aside for `range` of a file with a path; of a memory file nothing can be set aside.
    ///
    /// # Errors
    /// `ArenaFull` when the file system has no space; `Poisoned` when the file was cut.
    pub fn reserve(&self, range: &Range<u64>) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        self.check_len()?;
        path::reserve(self.valid()?, path, range)
    }

    /// An error of touching `need` bytes. Where no limit is known to have no room for them, it is the file system of a file
    /// with a path that has none.
    pub(super) fn explained(&self, error: Error, need: u64) -> Error {
        let is_unexplained = matches!(&error, Error::ArenaFull(full) if full.limit.is_empty());
        match (&self.path, self.valid()) {
            (Some(path), Ok(fd)) if is_unexplained => path::full(fd, path, need),
            _ => error,
        }
    }

    /// Other processes that have it open, as far as this one may look; at most a few.
    pub fn users(&self) -> Vec<Process> {
        let is_it = |link: DirEntry| {
            metadata(link.path())
                .is_ok_and(|facts| (facts.dev(), facts.ino()) == (self.identity.device, self.identity.inode))
        };
        let pids =
            list("/proc".into()).into_iter().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let others = pids.filter(|&pid: &u32| pid != std::process::id());
        let has_it = |&pid: &u32| list(format!("/proc/{pid}/fd").into()).is_ok_and(|mut links| links.any(is_it));
        others.filter(has_it).take(MOST_TOLD).map(Process::of).collect()
    }

    /// The length in bytes, with that of the file behind it.
    pub fn len_bytes(&self) -> u64 {
        self.pieces().map(Self::own_len).sum()
    }

    /// The length of this file alone.
    pub(super) fn own_len(&self) -> u64 {
        self.identity.len_bytes
    }

    /// The number of the kept descriptor, as siblings find it in `/proc`.
    pub fn descriptor(&self) -> i32 {
        self.fd.load(Ordering::Relaxed)
    }

    /// A descriptor that is open on this file now.
    pub(super) fn valid(&self) -> Result<RawFd> {
        let fd = self.descriptor();
        if identity(fd).is_some_and(|now| now.is_same_file(&self.identity)) {
            return Ok(fd);
        }
        let now_ms = monotonic().as_millis() as u64;
        if now_ms < self.lost_until_ms.load(Ordering::Relaxed) {
            return Err(self.lost());
        }
        let Some(found) = self.found_again() else {
            self.lost_until_ms.store(now_ms + LOST_FOR_MS, Ordering::Relaxed);
            return Err(self.lost());
        };
        let fd = move_high(found).into_raw_fd();
        // The old number may be somebody else's file by now, so it is left alone.
        self.fd.store(fd, Ordering::Relaxed);
        Ok(fd)
    }

    /// A new descriptor of the very file. At its path there may be another one by now.
    fn found_again(&self) -> Option<OwnedFd> {
        let is_it = |fd: &OwnedFd| identity(fd.as_raw_fd()).is_some_and(|now| now.is_same_file(&self.identity));
        let at_path = self.path.as_ref().and_then(|path| Some(path::open(path).ok()??.into())).filter(is_it);
        let elsewhere = || through_own_mapping(&self.name).or_else(|| search(&self.name, None).ok()?).filter(is_it);
        at_path.or_else(elsewhere)
    }

    fn lost(&self) -> Error {
        Error::attach(format!(
            "the descriptor of {} was closed by this program, and no other process that it may look into has it open: \
             keep descriptor {} open (daemons that close everything can be told which to spare)",
            self.name,
            self.descriptor()
        ))
    }

    /// Tries to lock `byte` for the life of the returned anchor; none when somebody has it. A child gets it only if
    /// it is `for_children`. Needs no free descriptor.
    ///
    /// # Errors
    /// `Attach` when the file can't be opened anew, or the anchor can't be mapped.
    pub fn anchor(&self, byte: u64, for_children: bool) -> Result<Option<Anchor>> {
        // A child that another thread forks in here would get the description, and with it the lock, for its life.
        between_forks(|| self.anchor_now(byte, for_children))
    }

    /// As [`Self::anchor`], for a caller that keeps forks out itself.
    ///
    /// # Errors
    /// As [`Self::anchor`].
    pub fn anchor_now(&self, byte: u64, for_children: bool) -> Result<Option<Anchor>> {
        let fd = self.valid()?;
        let path = format!("self/fd/{fd}");
        let work = move |fd: RawFd| lock_and_map(fd, byte, for_children);
        let done = match proc::open(&path) {
            Ok(fresh) => Ok(work(fresh.as_raw_fd())),
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => proc::on_an_errand(&path, fd, &work),
            Err(error) => Err(error),
        };
        match done.map_err(|cause| self.not_opened(fd, cause))? {
            0 => Ok(None),
            page if page > 0 => Ok(Some(Anchor { page: Page::of(page as usize) })),
            failed => Err(page::no_page(std::io::Error::from_raw_os_error(-failed as i32))),
        }
    }

    /// A description of the file through which nobody can write.
    ///
    /// # Errors
    /// `Attach` when the file can't be opened anew.
    pub fn open_to_read(&self) -> Result<OwnedFd> {
        let fd = self.valid()?;
        proc::open_to_read(&format!("self/fd/{fd}")).map_err(|cause| self.not_opened(fd, cause))
    }

    fn not_opened(&self, fd: RawFd, cause: std::io::Error) -> Error {
        let path = format!("/proc/self/fd/{fd}");
        let why = match cause.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => format!(
                "the arena belongs to uid {}, and this process is uid {} now: make the processes that share before \
                 the change of user, or begin with ndshare after it",
                self.identity.uid,
                effective_uid()
            ),
            Some(libc::EMFILE) => "no descriptor is free: close files, or raise ulimit -n".into(),
            Some(libc::ENFILE) => "the machine's table of files is full: close files, or raise fs.file-max".into(),
            Some(libc::ENOENT) => "/proc is not mounted here: mount it, or make the process before the chroot".into(),
            _ => "expected /proc to be mounted, and the file to be ours".into(),
        };
        let message = format!("opening {path} anew failed ({cause}); {why}");
        Error::attach_by(cause, message)
    }

    /// Whether somebody alive has any of these bytes locked. Needs no free descriptor.
    ///
    /// # Errors
    /// `Attach` when no descriptor of the file can be had.
    pub fn is_locked(&self, bytes: Range<u64>) -> Result<bool> {
        let mut lock = bytes_lock(bytes);
        // SAFETY: `lock` is a live struct of this frame; the descriptor was checked just now.
        if unsafe { libc::fcntl(self.valid()?, libc::F_OFD_GETLK, &mut lock) } != 0 {
            return Err(Error::last_os("asking for a lock of the memory file"));
        }
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }

    /// Bytes of the file, and of the one behind it, that are in memory now.
    pub fn committed_bytes(&self) -> Result<u64> {
        let committed = |piece: &Self| Ok(identity(piece.valid()?).map_or(0, |now| now.committed_bytes));
        self.pieces().map(committed).sum()
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        let fd = self.descriptor();
        if identity(fd).is_some_and(|now| now.is_same_file(&self.identity)) {
            // SAFETY: the descriptor is open on our file, so it is the one that `keep` took over.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// The sign of life of one participant. Dropping it, or dying, unlocks the byte.
#[derive(Debug)]
pub struct Anchor {
    page: Page,
}

impl Anchor {
    /// Whether a child that is forked from now on gets this anchor, too. At first it does not.
    ///
    /// # Errors
    /// `Os` when the kernel refuses.
    pub fn pass_to_children(&self, pass: bool) -> Result<()> {
        self.page.pass_to_children(pass)
    }
}

impl Identity {
    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

fn create_memfd(name: &str) -> Result<OwnedFd> {
    let name = std::ffi::CString::new(name).map_err(|_| Error::value("a memory file's name has a NUL byte"))?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Kernels from 6.3 want to be told that the file is not for running; older ones refuse the flag.
    for flags in [flags | libc::MFD_NOEXEC_SEAL, flags] {
        // SAFETY: the name is a NUL-terminated string that outlives the call.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: a descriptor that was just made belongs to nobody else.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(Error::last_os("memfd_create"))
}

fn open(path: &str) -> Option<OwnedFd> {
    let path = std::ffi::CString::new(path).ok()?;
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    // SAFETY: a descriptor that was just made belongs to nobody else.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a link of `/proc` if it leads to the memory file called `name`.
fn open_link(name: &str, link: &str) -> Option<OwnedFd> {
    leads_to(name, link).then(|| open(link))?
}

fn leads_to(name: &str, link: &str) -> bool {
    let Ok(target) = read_link(link) else { return false };
    match target.to_str() {
        Some(target) if target.starts_with("/memfd:") => target == format!("/memfd:{name} (deleted)"),
        _ => target.is_absolute() && says_it_is(name, link),
    }
}

/// Whether a link leads to a file of this user's, as we make them with a path, which begins with the id in `name`.
fn says_it_is(name: &str, link: &str) -> bool {
    let is_ours = |facts: Metadata| {
        facts.is_file()
            && facts.uid() == effective_uid()
            && facts.mode() & 0o022 == 0
            && facts.len() >= HEAD_BYTES as u64
    };
    let id = name.rsplit(':').next().and_then(|id| u64::from_str_radix(id, 16).ok());
    let Some(id) = id.filter(|id| id & HAS_PATH != 0 && metadata(link).is_ok_and(is_ours)) else { return false };
    // Where it led may be a pipe by now, which is not waited for.
    let head = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(link);
    let head = head.and_then(|file| path::first_bytes::<HEAD_BYTES>(&file));
    head.is_ok_and(|(head, _)| head.starts_with(b"ndshare") && head[8..] == id.to_le_bytes())
}

/// A magic word and an id: what every arena begins with.
const HEAD_BYTES: usize = 16;

/// Where an open file is, if it is one with a path.
fn path_of(fd: RawFd) -> Option<PathBuf> {
    let target = read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let is_memfd = target.to_str().is_some_and(|text| text.starts_with("/memfd:"));
    (target.is_absolute() && !is_memfd).then_some(target)
}

/// Looks for the memory file called `name` in every process that this one may look into, in `first` before all others.
///
/// # Errors
/// `Attach` without a descriptor to look by: the file may be there.
fn search(name: &str, first: Option<u32>) -> Result<Option<OwnedFd>> {
    let is_process = |entry: &DirEntry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
    let processes = list("/proc".into())?.filter(is_process).map(|entry| entry.path());
    for process in first.map(|pid| format!("/proc/{pid}").into()).into_iter().chain(processes) {
        for link in list(process.join("fd"))? {
            let path = link.path();
            let Some(path) = path.to_str().filter(|path| leads_to(name, path)) else { continue };
            match open(path) {
                None if has_no_descriptor(&io::Error::last_os_error()) => return Err(closed_link(path)),
                None => {}
                found => return Ok(found),
            }
        }
    }
    Ok(None)
}

fn has_no_descriptor(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// What is in a directory; nothing where this process may not look.
fn list(path: PathBuf) -> Result<impl Iterator<Item = DirEntry>> {
    match read_dir(&path) {
        Err(error) if has_no_descriptor(&error) => Err(Error::attach(format!(
            "{} can't be looked into: expected a free descriptor; close files, or raise ulimit -n",
            path.display()
        ))),
        listed => Ok(listed.into_iter().flatten().flatten()),
    }
}

/// The memory file through a mapping of this process, which only the privileged may open.
fn through_own_mapping(name: &str) -> Option<OwnedFd> {
    let maps = read_kernel_text("/proc/self/maps").ok()?;
    let suffix = format!(" /memfd:{name} (deleted)");
    let ours = maps.lines().filter(|line| line.ends_with(&suffix)).filter_map(|line| line.split(' ').next());
    let mut opened = ours.filter_map(|range| proc::open(&format!("self/map_files/{range}")).ok());
    opened.next()
}

/// A file that the link leads to, and that another user owns, is not even opened.
fn refuse_foreign(name: &str, pid: u32, link: &str) -> Result<()> {
    let owner = if leads_to(name, link) { metadata(link).ok().map(|file| file.uid()) } else { None };
    owner.filter(|&uid| uid != effective_uid()).map_or(Ok(()), |uid| Err(foreign(name, pid, uid)))
}

/// The file is another user's: what is in it is not to be trusted, whoever may open it.
fn foreign(name: &str, pid: u32, uid: u32) -> Error {
    let (id, me) = (name.rsplit(':').next().unwrap_or(name), effective_uid());
    let message = format!(
        "arena {id} of process {pid} belongs to uid {uid}, and this process is uid {me}: an arena is one user's; \
         unset NDSHARE_SESSION if it came from another user's environment (sudo -E, cron), or send the array by value"
    );
    Foreign { pid: Some(pid), uid: Some(uid), message: message.into() }.into()
}

/// The file is there, and opening it fails.
fn closed_link(link: &str) -> Error {
    Error::attach(format!(
        "the arena is there, but {link} can't be opened: expected a free descriptor; close files, or raise ulimit -n"
    ))
}

fn unreachable_file(name: &str, pid: u32) -> Error {
    let id = name.rsplit(':').next().unwrap_or(name);
    let cause = if !std::path::Path::new("/proc/self/fd").exists() {
        "/proc is not mounted".to_owned()
    } else if std::path::Path::new(&format!("/proc/{pid}")).exists() {
        format!(
            "process {pid}, which named it, has dropped all of it, is another user's, in another user namespace, or not \
             dumpable"
        )
    } else {
        format!("process {pid}, which named it, is gone, was on another machine or is in another container")
    };
    let message = format!(
        "arena {id} can't be reached: expected a process of this user that has it open, but {cause}; \
         send the array itself by value instead"
    );
    Unreachable { pid: Some(pid), message: message.into() }.into()
}

fn identity(fd: RawFd) -> Option<Identity> {
    // SAFETY: all zeros is a valid `stat`, a plain struct of integers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a live struct of this frame; a bad descriptor is an error, not a fault.
    let failed = unsafe { libc::fstat(fd, &mut stat) } != 0;
    (!failed).then(|| Identity {
        device: stat.st_dev,
        inode: stat.st_ino,
        uid: stat.st_uid,
        len_bytes: stat.st_size as u64,
        committed_bytes: stat.st_blocks as u64 * 512,
    })
}

fn fcntl(fd: RawFd, command: libc::c_int) -> Result<libc::c_int> {
    // SAFETY: the commands used here take no argument.
    let answer = unsafe { libc::fcntl(fd, command) };
    if answer < 0 { Err(Error::last_os("fcntl on the memory file")) } else { Ok(answer) }
}

fn bytes_lock(bytes: Range<u64>) -> libc::flock {
    // SAFETY: all zeros is a valid `flock`; OFD locks require `l_pid` 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = bytes.start.cast_signed();
    lock.l_len = (bytes.end - bytes.start).cast_signed();
    lock
}

/// Locks a byte through a fresh description, and maps a page that keeps it. The address of that page; 0 when somebody
/// has the byte; below 0 an error number. Only system calls, because an errand does it, too.
fn lock_and_map(fd: RawFd, byte: u64, for_children: bool) -> i64 {
    let mut lock = bytes_lock(byte..byte + 1);
    // SAFETY: `lock` is a live struct of this frame, and the caller has the descriptor.
    if unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &mut lock) } != 0 {
        let errno = last_errno();
        return if [libc::EAGAIN, libc::EACCES].map(i64::from).contains(&errno) { 0 } else { -errno };
    }
    page::map_page(fd, for_children)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ArenaFull;

    #[test]
    fn what_the_system_refuses_is_the_source_of_the_error() {
        let errno = |error: &Error| {
            let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
            source.and_then(std::io::Error::raw_os_error)
        };
        let error = MemFile::create(&"n".repeat(300), 1 << 20).unwrap_err();
        assert!(matches!(&error, Error::Os(os) if os.what == "memfd_create"), "{error:?}");
        assert_eq!(errno(&error), Some(libc::EINVAL), "the name is too long");
        let error = page::no_page(std::io::Error::from_raw_os_error(-page::map_page(-1, false) as i32));
        assert_eq!((error.kind(), errno(&error)), (crate::Kind::Attach, Some(libc::EBADF)), "there is no such file");
    }

    #[test]
    fn a_file_is_found_by_name_and_has_one_tenant_a_byte() {
        let name = format!("ndshare:test-{}", super::super::random_u64());
        let file = MemFile::create(&name, 1 << 20).unwrap();
        let again = MemFile::find(&name, std::process::id(), file.descriptor()).unwrap();
        let searched = MemFile::find(&name, 0, -1).unwrap();
        assert!(again.identity.is_same_file(&searched.identity));
        let anchor = file.anchor(3, false).unwrap().unwrap();
        assert!(again.anchor(3, false).unwrap().is_none());
        assert!(again.is_locked(3..4).unwrap() && !again.is_locked(4..9).unwrap() && again.is_locked(0..9).unwrap());
        drop(anchor);
        assert!(!again.is_locked(0..9).unwrap());
    }

    #[test]
    fn a_closed_descriptor_is_found_again_in_a_sibling_and_the_reused_number_is_left_alone() {
        let name = format!("ndshare:test-{}", super::super::random_u64());
        let file = MemFile::create(&name, 1 << 20).unwrap();
        let sibling = MemFile::find(&name, std::process::id(), file.descriptor()).unwrap();
        let lost = file.descriptor();
        // SAFETY: the test plays the program that closes a descriptor which is not its own.
        unsafe { libc::close(lost) };
        assert!(!file.is_locked(0..1).unwrap());
        drop((file, sibling));
    }

    /// A process at its limit of descriptors could make no sign of life, and so no child that shares.
    #[test]
    fn an_errand_makes_an_anchor_without_a_free_descriptor() {
        let name = format!("ndshare:test-{}", super::super::random_u64());
        let file = MemFile::create(&name, 1 << 20).unwrap();
        // Other tests open files meanwhile, so only the links to this one count.
        let is_ours = |link: &std::fs::DirEntry| leads_to(&name, link.path().to_str().unwrap_or_default());
        let links = || read_dir("/proc/self/fd").unwrap().flatten().filter(is_ours).count();
        assert_eq!(links(), 1);
        let path = format!("self/fd/{}", file.descriptor());
        let page = proc::on_an_errand(&path, file.descriptor(), &|fd| lock_and_map(fd, 70_000, false)).unwrap();
        assert!(page > 0 && file.is_locked(70_000..70_001).unwrap());
        assert_eq!(links(), 1);
        assert_eq!(proc::on_an_errand(&path, file.descriptor(), &|fd| lock_and_map(fd, 70_000, false)).unwrap(), 0);
        let missing = proc::on_an_errand("self/fd/99999", file.descriptor(), &|_| 1).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        drop(Page::of(page as usize));
        assert!(!file.is_locked(70_000..70_001).unwrap());
    }

    #[test]
    fn a_lost_descriptor_comes_back_through_the_mapping_or_says_so() {
        let name = format!("ndshare:test-{}", super::super::random_u64());
        let file = MemFile::create(&name, 1 << 20).unwrap();
        let kept = file.anchor(5, false).unwrap().unwrap();
        // SAFETY: the test plays the program that closes a descriptor which is not its own.
        unsafe { libc::close(file.descriptor()) };
        match file.is_locked(5..6) {
            Ok(locked) => assert!(locked, "found through /proc/self/map_files"),
            Err(error) => assert!(error.to_string().contains("was closed by this program"), "{error}"),
        }
        drop(kept);
    }

    /// A file at `path` that says it is the arena's of this id.
    fn lasting(path: &Path, id: u64) -> MemFile {
        let name = format!("ndshare:{id:016x}");
        let new = NewFile::on_the_way_to(path).unwrap();
        new.file().set_len(1 << 20).unwrap();
        let file = MemFile::open_at(path, new.file(), &name).unwrap();
        std::os::unix::fs::FileExt::write_all_at(new.file(), b"ndshare1", 0).unwrap();
        path::write_id(new.file(), id).unwrap();
        assert!(new.name_it().unwrap());
        file
    }

    #[test]
    fn a_file_whose_path_is_anothers_by_now_is_found_again_in_a_sibling() {
        let random = super::super::random_u64();
        let path = std::env::temp_dir().join(format!("ndshare-test-{random:016x}"));
        let file = lasting(&path, random | HAS_PATH);
        let sibling = MemFile::open_at(&path, &path::open(&path).unwrap().unwrap(), &file.name).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = lasting(&path, !random | HAS_PATH);
        // SAFETY: the test plays the program that closes a descriptor which is not its own.
        unsafe { libc::close(file.descriptor()) };
        let found = identity(file.valid().unwrap()).unwrap();
        assert!(found.is_same_file(&file.identity));
        assert!(file.is_same_as(&sibling) && !file.is_same_as(&other));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn only_an_error_without_a_limit_is_the_file_systems() {
        let random = super::super::random_u64();
        let path = std::env::temp_dir().join(format!("ndshare-test-{random:016x}"));
        let file = lasting(&path, random | HAS_PATH);
        std::fs::remove_file(&path).unwrap();
        let no_page = file.explained(ArenaFull::saying("no page").into(), 4096).to_string();
        assert!(no_page.contains("the file system of"), "{no_page}");
        let limit = ArenaFull { limit: "a limit".into(), ..ArenaFull::saying("a limit leaves 0 bytes") };
        assert_eq!(file.explained(limit.into(), 4096).to_string(), "a limit leaves 0 bytes");
        let refused = Error::os("madvise", io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(file.explained(refused.clone(), 4096).to_string(), refused.to_string());
    }

    #[test]
    fn nobody_else_may_open_it_and_it_keeps_its_length() {
        let file = MemFile::create("ndshare:test-mode", 1 << 20).unwrap();
        let fd = file.valid().unwrap();
        // SAFETY: all zeros is a valid `stat`.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: live struct, open descriptor.
        assert_eq!(unsafe { libc::fstat(fd, &mut stat) }, 0);
        assert_eq!(stat.st_mode & 0o777, 0o600);
        // SAFETY: an integer argument only.
        assert_eq!(unsafe { libc::ftruncate(fd, 0) }, -1);
    }
}
