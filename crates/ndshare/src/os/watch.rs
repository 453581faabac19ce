//! One descriptor for several reasons to wake: an epoll set that holds a pipe, the processes whose end is awaited, and
//! a timer where those can't be had. It is readable while one of them is, for select, poll, Qt and asyncio alike.

use super::pipe::Pipe;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// An epoll set.
#[derive(Debug)]
pub struct Watch {
    epoll: OwnedFd,
}

/// A process that was alive when this was made. Its descriptor is readable once the process has ended.
#[derive(Debug)]
pub struct Ending {
    descriptor: OwnedFd,
}

impl Ending {
    /// None where the kernel is older than 5.3, a rule or `NDSHARE_NO_PIDFD` forbids it, or no descriptor is to be had.
    pub fn of(pid: u32) -> Option<Self> {
        let pid = libc::pid_t::try_from(pid).ok().filter(|&pid| pid > 0)?;
        if std::env::var_os("NDSHARE_NO_PIDFD").is_some_and(|value| !value.is_empty() && value != "0") {
            return None;
        }
        // SAFETY: integers only. The descriptor is closed on exec by itself.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let descriptor = RawFd::try_from(descriptor).ok().filter(|&fd| fd >= 0)?;
        // SAFETY: a descriptor that was just made belongs to nobody else.
        Some(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live struct of this frame.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }
}

/// A timer that makes its descriptor readable again and again while it is set.
#[derive(Debug)]
pub struct Ticks {
    descriptor: OwnedFd,
}

impl Ticks {
    /// One that is not set. None when there is no descriptor to be had.
    pub fn new() -> Option<Self> {
        // SAFETY: integers only.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        // SAFETY: a descriptor that was just made belongs to nobody else.
        (fd >= 0).then(|| Self { descriptor: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The descriptor that is readable after a tick.
    pub fn descriptor(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Ticks from now on each `period`, the first one after a period; never if that is zero. It is quiet at once.
    pub fn set(&self, period: Duration) {
        let step = libc::timespec {
            tv_sec: period.as_secs().cast_signed(),
            tv_nsec: i64::from(period.subsec_nanos()) as libc::c_long,
        };
        let times = libc::itimerspec { it_interval: step, it_value: step };
        // SAFETY: a live struct of this frame; no old value is asked for. It cannot fail for a valid period.
        unsafe { libc::timerfd_settime(self.descriptor.as_raw_fd(), 0, &times, std::ptr::null_mut()) };
    }
}

impl Watch {
    /// None when there is no descriptor to be had.
    pub fn new(pipe: &Pipe, ticks: &Ticks) -> Option<Self> {
        // SAFETY: an integer argument only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return None;
        }
        // SAFETY: a descriptor that was just made belongs to nobody else.
        let watch = Self { epoll: unsafe { OwnedFd::from_raw_fd(fd) } };
        (watch.add(pipe.descriptor()) && watch.add(ticks.descriptor.as_raw_fd())).then_some(watch)
    }

    /// The descriptor to wait on.
    pub fn descriptor(&self) -> i32 {
        self.epoll.as_raw_fd()
    }

    /// Sleeps until it is readable, or for `longest`; says whether it is. A signal ends the sleep.
    pub fn wait(&self, longest: Duration) -> bool {
        let mut poll = libc::pollfd { fd: self.epoll.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(longest.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: longest.subsec_nanos().into(),
        };
        // SAFETY: two live structs of this frame, and no mask.
        unsafe { libc::ppoll(&mut poll, 1, &time, std::ptr::null()) == 1 }
    }

    /// Takes a process in; says whether that could be done.
    pub fn add_ending(&self, ending: &Ending) -> bool {
        self.add(ending.descriptor.as_raw_fd())
    }

    /// Takes a process out again. Closing its descriptor alone would not, if a forked child has a copy.
    pub fn remove_ending(&self, ending: &Ending) {
        self.control(libc::EPOLL_CTL_DEL, ending.descriptor.as_raw_fd());
    }

    fn add(&self, descriptor: RawFd) -> bool {
        self.control(libc::EPOLL_CTL_ADD, descriptor)
    }

    fn control(&self, what: libc::c_int, descriptor: RawFd) -> bool {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: a live struct of this frame; bad descriptors are errors, not faults.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, descriptor, &mut event) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipe::is_readable;
    use super::*;

    #[test]
    fn a_watch_is_readable_by_its_pipe_and_by_the_end_of_a_process() {
        let pipe = Pipe::new().unwrap();
        let watch = Watch::new(&pipe, &Ticks::new().unwrap()).unwrap();
        assert!(!is_readable(watch.descriptor()));
        pipe.fill();
        assert!(is_readable(watch.descriptor()));
        pipe.drain();
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let ending = Ending::of(child.id()).unwrap();
        assert!(watch.add_ending(&ending) && !ending.has_ended() && !is_readable(watch.descriptor()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ending.has_ended() && is_readable(watch.descriptor()));
        watch.remove_ending(&ending);
        assert!(!is_readable(watch.descriptor()));
        assert!(Ending::of(0).is_none() && Ending::of(u32::MAX).is_none());
    }

    #[test]
    fn ticks_come_while_the_timer_is_set() {
        let pipe = Pipe::new().unwrap();
        let ticks = Ticks::new().unwrap();
        let watch = Watch::new(&pipe, &ticks).unwrap();
        for _ in 0..3 {
            ticks.set(Duration::from_millis(50));
            assert!(!is_readable(watch.descriptor()));
            while !is_readable(watch.descriptor()) {
                std::thread::yield_now();
            }
        }
        ticks.set(Duration::ZERO);
        assert!(!is_readable(watch.descriptor()));
    }
}
