//! The only door to the operating system, and the only user of `libc`.
//!
//! Linux 5.16 or later on x86-64 and aarch64. A newer call is tried first, and its fallback can be forced by an
//! environment variable, so that tests run both.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("ndshare runs on Linux (x86-64 and aarch64): sealed memory files, OFD locks and futexes are its ground");

pub mod cpu;
pub mod descriptor;
pub mod directory;
pub mod fault;
pub mod file;
pub mod fork;
pub mod futex;
pub mod kill;
pub mod limits;
pub mod memory;
pub mod offers;
mod page;
pub mod parent;
pub mod path;
pub mod pipe;
pub mod proc;
pub mod process;
pub mod socket;
pub mod thread;
pub mod watch;

pub use page::{HUGE_BYTES, PAGE_BYTES, page_size_is_supported};
pub use process::process_name;

use std::io;
use std::time::Duration;

/// How many processors are online, whichever of them this process may use: its peers may use others.
pub fn processors() -> usize {
    // SAFETY: sysconf asks the system for a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// Time since the machine started, on the monotonic clock that all processes share.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec of this frame, which the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// UTC since 1970, on the wall clock, which may be set.
pub fn realtime() -> Duration {
    std::time::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// Whether process `pid`, as this process sees it, has the file mapped that lies at `address` here. No, where that can't be
/// told.
///
/// What the kernel says of the file in both lists of mappings is compared, and that is its device and its inode: each process
/// may know it by another path, and `stat` tells another device than these lists where a file system has several (btrfs) or
/// lies on others (overlayfs).
pub fn has_mapped(pid: u32, address: usize) -> bool {
    let mine = mappings("self").find(|(range, _)| range.contains(&address));
    mine.is_some_and(|(_, file)| mappings(&pid.to_string()).any(|(_, other)| other == file))
}

/// The mapped files of a process: their addresses, and device and inode as the list of mappings has them.
fn mappings(process: &str) -> impl Iterator<Item = (std::ops::Range<usize>, (String, u64))> {
    use std::io::BufRead;
    let list = std::fs::File::open(format!("/proc/{process}/maps")).map(std::io::BufReader::new);
    // BOUND: the mappings of one process, which the kernel limits. A path may have any bytes, so they are not text.
    let lines = list.into_iter().flat_map(|list| list.split(b'\n').map_while(io::Result::ok));
    lines.filter_map(|line| mapping(&String::from_utf8_lossy(&line)))
}

/// One line of the list: `start-end permissions offset device inode path`. Memory without a file has inode 0.
fn mapping(line: &str) -> Option<(std::ops::Range<usize>, (String, u64))> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let [start, end] = [start, end].map(|address| usize::from_str_radix(address, 16).ok());
    let (device, inode) = (words.nth(2)?.to_owned(), words.next()?.parse().ok()?);
    (inode != 0).then_some((start?..end?, (device, inode)))
}

/// A file of the kernel's as text. Names of programs and of files, which stand in many, may have any bytes: what is no text
/// becomes a mark (U+FFFD), and the rest is read.
fn read_kernel_text(path: impl AsRef<std::path::Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

/// 64 bits that nobody can guess, for ids and nonces.
pub fn random_u64() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer is 8 live bytes of this frame.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == 8 {
        return u64::from_ne_bytes(bytes);
    }
    // Early in boot, or in a sandbox: time and pid still tell two processes apart.
    (monotonic().as_nanos() as u64).rotate_left(17) ^ u64::from(std::process::id())
}

/// The user in whose name this process acts.
fn effective_uid() -> u32 {
    // SAFETY: the call takes nothing and always succeeds.
    unsafe { libc::geteuid() }
}

/// The group in whose name this process acts.
fn effective_gid() -> u32 {
    // SAFETY: the call takes nothing and always succeeds.
    unsafe { libc::getegid() }
}

/// The error number of the last system call.
fn last_errno() -> i64 {
    // SAFETY: the address of this thread's errno is always valid.
    i64::from(unsafe { *libc::__errno_location() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_told_by_its_file() {
        let line = "7f00-7f10 rw-s 00001000 00:21 77 /dev/shm/a b.nds (deleted)";
        assert_eq!(mapping(line), Some((0x7f00..0x7f10, ("00:21".to_owned(), 77))));
        assert_eq!(mapping("7f05-7f06 rw-p 00000000 00:00 0"), None);
        assert_eq!(mapping("7f05 rw-p"), None);
    }

    #[test]
    fn what_is_no_text_hides_nothing_else() {
        let path = std::env::temp_dir().join(format!("ndshare-test-{:016x}", random_u64()));
        std::fs::write(&path, b"1 / /media/M\xfcnchen\n2 / /sys\n").unwrap();
        assert_eq!(read_kernel_text(&path).unwrap(), "1 / /media/M\u{fffd}nchen\n2 / /sys\n");
        std::fs::remove_file(&path).unwrap();
        assert!(read_kernel_text(&path).is_err());
    }

    #[test]
    fn a_file_is_mapped_by_this_process_and_memory_without_one_by_none() {
        let code = has_mapped as fn(u32, usize) -> bool as usize;
        assert!(has_mapped(std::process::id(), code));
        assert!(!has_mapped(std::process::id(), Box::new(0_u8).as_ref() as *const u8 as usize));
        assert!(!has_mapped(0, code));
    }
}
