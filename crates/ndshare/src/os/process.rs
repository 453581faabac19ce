//! Other processes, by their numbers: whether one is over, and what `/proc` tells of it for errors and reports.
//!
//! A number says who is over, never who lives: it may have been given to somebody else by now, who then counts as the
//! one who was asked for. So the only mistake is to wait longer.

use super::proc;
use super::{effective_uid, read_kernel_text};
use crate::error::Process;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Whether the process that got the number `pid` is over: nobody has the number, or only until somebody asks how it
/// ended. Where no descriptor is to be had, a process that nobody waited for counts as alive.
pub fn is_over(pid: u32) -> bool {
    let Ok(number) = libc::pid_t::try_from(pid) else { return true };
    if number == 0 {
        return false;
    }
    // SAFETY: no memory is involved.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
    let Some(descriptor) = i32::try_from(opened).ok().filter(|&fd| fd >= 0) else { return proc::is_unused(pid) };
    // SAFETY: a descriptor that was just made belongs to nobody else.
    let process = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live struct of this frame.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

/// Has `work` run when this process ends in order: by `exit`, not by a signal.
pub(crate) fn at_exit(work: extern "C" fn()) {
    // SAFETY: the handler is a function of this library, which is never unloaded. Without memory for one, none runs.
    unsafe { libc::atexit(work) };
}

/// Whether the process with this number is of this user and lets nobody look which files it has open.
pub fn is_opaque(pid: u32) -> bool {
    let status = read_kernel_text(format!("/proc/{pid}/status")).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let effective = uids.and_then(|uids| uids.split_whitespace().nth(1)?.parse().ok());
    effective == Some(effective_uid()) && std::fs::read_dir(format!("/proc/{pid}/fd")).is_err()
}

impl Process {
    /// Looks at a process.
    pub(crate) fn of(pid: u32) -> Self {
        let stat = read_kernel_text(format!("/proc/{pid}/stat")).unwrap_or_default();
        Self { pid, name: process_name(pid).unwrap_or_default(), is_stopped: is_stopped(&stat) }
    }
}

/// What the system calls a process: at most 15 bytes of its name, which may end within a letter.
pub fn process_name(pid: u32) -> Option<String> {
    Some(plain(read_kernel_text(format!("/proc/{pid}/comm")).ok()?.trim_end()))
}

/// A name that its process chose, without orders to the terminal that an error is printed to.
fn plain(name: &str) -> String {
    name.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// `pid (name) state …`; the name may hold anything, also a parenthesis.
fn is_stopped(stat: &str) -> bool {
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
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
        assert!(is_over(child.id()) && is_over(u32::MAX) && !is_over(0));
    }

    #[test]
    fn the_state_stands_behind_the_name_whatever_that_is() {
        assert!(is_stopped("12 (a) R (b) T 1 12") && is_stopped("1 (x) t 0"));
        assert!(!is_stopped("12 (T) S 1 12") && !is_stopped("12 (a") && !is_stopped(""));
    }

    /// The kernel cuts a name off after 15 bytes, in the middle of a letter, too.
    #[test]
    fn a_stopped_process_is_told_whatever_its_name_is() {
        let folder = std::env::temp_dir().join(format!("ndshare-test-{:016x}", crate::os::random_u64()));
        std::fs::create_dir(&folder).unwrap();
        let program = folder.join("spectrometer-1Ä");
        let cat = ["/bin/cat", "/usr/bin/cat"].into_iter().find(|path| std::path::Path::new(path).exists()).unwrap();
        std::os::unix::fs::symlink(cat, &program).unwrap();
        let mut command = Command::new(&program);
        let mut child = command.arg0("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        // SAFETY: a signal to a child that nobody has waited for.
        assert_eq!(unsafe { libc::kill(pid.cast_signed(), libc::SIGSTOP) }, 0);
        let deadline = crate::os::monotonic() + std::time::Duration::from_secs(60);
        while !Process::of(pid).is_stopped {
            assert!(crate::os::monotonic() < deadline, "it counts as one that runs");
            std::thread::yield_now();
        }
        assert_eq!(process_name(pid).unwrap(), "spectrometer-1\u{fffd}");
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_name_tells_a_terminal_nothing() {
        assert_eq!(plain("\u{1b}[2J\r\na b\u{9b}"), "?[2J??a b?");
    }

    #[test]
    fn a_process_is_named_and_one_that_is_none_has_its_number() {
        let me = Process::of(std::process::id());
        assert!(!me.name.is_empty() && !me.is_stopped);
        assert_eq!(me.to_string(), format!("pid {} ({})", me.pid, me.name));
        assert_eq!(Process::of(0).to_string(), "pid 0 (name unknown)");
    }
}
