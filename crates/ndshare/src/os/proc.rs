//! Files of `/proc`, also after a chroot, and also when no descriptor is free.
//!
//! An `O_PATH` descriptor of `/proc` is kept from the first arena on, so that a chroot takes nothing away. Where the
//! limit of descriptors is reached, an **errand** goes: a process for a moment, which shares the address space but has a
//! table of descriptors of its own. It closes one in that table, opens the file, does its work, and ends. What it mapped
//! stays; nobody else sees a descriptor come or go.

use super::descriptor::{file_of, move_high};
use super::last_errno;
use super::thread::with_signals_blocked;
use crate::prim::{AtomicI32, AtomicU64, Ordering};
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// The kept descriptor, and which file it is: the program may have closed it, and its number may be another file's.
static PROC: AtomicI32 = AtomicI32::new(-1);
static PROC_DEVICE: AtomicU64 = AtomicU64::new(0);

/// The inode of the root of every `/proc`.
const ROOT_INODE: u64 = 1;
const ERRAND_STACK_BYTES: usize = 32 << 10;

/// What an errand does with the file; in there, only system calls are allowed. Its result is the caller's business.
pub(super) type Work = dyn Fn(RawFd) -> i64 + Sync;

/// Keeps `/proc` for later.
pub(super) fn keep() {
    if kept().is_some() {
        return;
    }
    // SAFETY: the path is a NUL-terminated constant.
    let fd = unsafe { libc::open(c"/proc".as_ptr(), libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY) };
    if fd < 0 {
        return;
    }
    // SAFETY: a descriptor that was just made belongs to nobody else.
    let high = move_high(unsafe { OwnedFd::from_raw_fd(fd) });
    if let Some((device, ROOT_INODE)) = file_of(high.as_raw_fd()) {
        PROC_DEVICE.store(device, Ordering::Relaxed);
        PROC.store(high.into_raw_fd(), Ordering::Release);
    }
}

fn kept() -> Option<RawFd> {
    let fd = PROC.load(Ordering::Acquire);
    (fd >= 0 && file_of(fd) == Some((PROC_DEVICE.load(Ordering::Relaxed), ROOT_INODE))).then_some(fd)
}

/// A file of `/proc`: where to begin, and the path from there.
struct ProcPath {
    from: RawFd,
    path: CString,
}

impl ProcPath {
    fn of(path: &str) -> io::Result<Self> {
        let named = |text: String| CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        match kept() {
            Some(from) => Ok(Self { from, path: named(path.to_owned())? }),
            None => Ok(Self { from: libc::AT_FDCWD, path: named(format!("/proc/{path}"))? }),
        }
    }

    /// Opens it for reading and writing. Only a system call, so that an errand may do it.
    fn open(&self) -> RawFd {
        self.open_for(libc::O_RDWR)
    }

    fn open_for(&self, access: libc::c_int) -> RawFd {
        // SAFETY: the path is a NUL-terminated string that outlives the call.
        unsafe { libc::openat(self.from, self.path.as_ptr(), access | libc::O_CLOEXEC) }
    }
}

/// Opens a file of `/proc` for reading and writing; the path begins below `/proc`.
pub(super) fn open(path: &str) -> io::Result<OwnedFd> {
    owned(ProcPath::of(path)?.open())
}

/// The same for reading alone.
pub(super) fn open_to_read(path: &str) -> io::Result<OwnedFd> {
    owned(ProcPath::of(path)?.open_for(libc::O_RDONLY))
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Which pid namespace this process is in; none when that can't be found out.
pub fn pid_namespace() -> Option<u64> {
    let place = ProcPath::of("self/ns/pid").ok()?;
    // SAFETY: all zeros is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated path and a live struct of this frame.
    let failed = unsafe { libc::fstatat(place.from, place.path.as_ptr(), &mut stat, 0) } != 0;
    (!failed && stat.st_ino != 0).then_some(stat.st_ino)
}

/// Whether no process of this pid namespace has this number: not even one that has ended and was not waited for.
pub fn is_unused(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 only asks.
    pid > 0 && unsafe { libc::kill(pid, 0) } != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

struct Errand<'a> {
    place: ProcPath,
    /// Closed in the errand's own table, so that there is a free number.
    gives_way: RawFd,
    work: &'a Work,
    result: i64,
}

/// Runs `work` with a file of `/proc` open, without a free descriptor. `work` returns a result that is not negative, or an
/// error number below 0.
pub(super) fn on_an_errand(path: &str, needed: RawFd, work: &Work) -> io::Result<i64> {
    let place = ProcPath::of(path)?;
    let gives_way = (0..3).find(|&fd| fd != needed && fd != place.from).unwrap_or(0);
    let mut errand = Errand { place, gives_way, work, result: -i64::from(libc::EINTR) };
    with_signals_blocked(|| send(&mut errand))?;
    if errand.result < 0 { Err(io::Error::from_raw_os_error(-errand.result as i32)) } else { Ok(errand.result) }
}

fn send(errand: &mut Errand<'_>) -> io::Result<()> {
    let mut stack = [const { MaybeUninit::<u8>::uninit() }; ERRAND_STACK_BYTES];
    let end = stack.as_mut_ptr_range().end;
    let top = end.wrapping_sub(end.addr() % 16);
    // No signal at its end: nobody's `wait` sees it but the one below.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    // SAFETY: with CLONE_VFORK this thread sleeps until the errand has ended, so the stack, the errand and this thread's
    // errno are the errand's alone meanwhile. It makes only system calls, on descriptors of its own table.
    let pid = unsafe { libc::clone(run, top.cast(), flags, std::ptr::from_mut(errand).cast()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a null status is allowed; signals are blocked, so nothing interrupts it.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
    Ok(())
}

extern "C" fn run(errand: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `send` passes a live errand, and sleeps while this runs.
    let errand = unsafe { &mut *errand.cast::<Errand<'_>>() };
    // SAFETY: it closes a number of this process's own table, which ends with it.
    unsafe { libc::close(errand.gives_way) };
    let fd = errand.place.open();
    errand.result = if fd < 0 { -last_errno() } else { (errand.work)(fd) };
    0
}
