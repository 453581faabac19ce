//! Other processes, by their numbers.
//!
//! A number says who is over, never who lives: it may have been given to somebody else by now, who then counts as the
//! one who was asked for. So the only mistake is to wait longer.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// Whether the process that got the number `pid` is over: nobody has the number, or only until somebody asks how it
/// ended.
pub fn is_over(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return true };
    if pid == 0 {
        return false;
    }
    // SAFETY: no memory is involved.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Ok(descriptor) = i32::try_from(opened) else { return is_unknown(pid) };
    if descriptor < 0 {
        return is_unknown(pid);
    }
    // SAFETY: a descriptor that was just made belongs to nobody else.
    let process = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live struct of this frame.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

/// The second way to ask, which needs no descriptor. It takes a process that nobody waits for to be alive.
fn is_unknown(pid: libc::pid_t) -> bool {
    // SAFETY: no memory is involved, and signal 0 is none.
    let answer = unsafe { libc::kill(pid, 0) };
    answer != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// In which numbering of processes this one lives: the inode of its pid namespace. 0: not to be found out.
pub fn numbering() -> u32 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |found| found.ino() as u32)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_is_over_when_it_has_ended_whether_or_not_anybody_asked() {
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(!is_over(child.id()) && !is_over(std::process::id()));
        child.kill().unwrap();
        let deadline = crate::os::monotonic() + std::time::Duration::from_secs(60);
        while !is_over(child.id()) {
            assert!(crate::os::monotonic() < deadline, "a killed child that nobody waited for counts as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_over(child.id()) && is_over(u32::MAX));
        assert!(!is_over(0) && numbering() != 0);
    }
}
