//! Ending with another process: a worker whose pool was killed has nobody to work for.
//!
//! A thread waits on the other's pidfd, and kills this process when the other has ended. A thread, because the process
//! may be inside a long call that lets no Python thread run; and not the kernel's parent-death signal, because that
//! one means the thread that forked, and with a server of forks another process. Before a fork the thread ends, as all
//! of ours do; [`resume`] starts it anew. A program that closes the descriptors ends the watch, and not itself.

use super::descriptor::Kept;
use super::fork::at_fork;
use super::pipe::Pipe;
use super::thread::Thread;
use crate::error::{Error, Result};
use crate::prim::SpinLock;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// What is waited on, and how the thread is told to stop waiting.
#[derive(Debug)]
struct Watch {
    end: Kept,
    stop: Pipe,
}

#[derive(Debug)]
struct State {
    watch: Option<Arc<Watch>>,
    thread: Option<Thread>,
}

static STATE: SpinLock<State> = SpinLock::new(State { watch: None, thread: None });

/// From now on this process is killed (SIGKILL) as soon as process `pid` has ended; at once if it has already.
///
/// `sentinel` is a descriptor that becomes readable at that end, too, as multiprocessing makes them; it tells when `pid`
/// is another process by now, and is all there is where the kernel gives no pidfd. It is duplicated.
///
/// # Errors
/// `Os` when there is no descriptor or no thread to be had.
pub fn end_with(pid: u32, sentinel: i32) -> Result<()> {
    let end = open_process(pid, sentinel)?;
    if is_readable(sentinel) {
        end_now();
    }
    let stop = Pipe::new().ok_or_else(|| failed("making a pipe"))?;
    let watch = Arc::new(Watch { end: Kept::new(end), stop });
    prepare_for_forks()?;
    STATE.lock().watch = Some(watch);
    resume()
}

/// Starts the thread again after a fork of this process, if there is something to watch.
///
/// # Errors
/// `Os` when there is no thread to be had.
pub fn resume() -> Result<()> {
    let mut state = STATE.lock();
    let Some(watch) = state.watch.clone().filter(|_| state.thread.is_none()) else { return Ok(()) };
    watch.stop.drain();
    state.thread = Some(Thread::start("ndshare-parent", move || wait(&watch))?);
    Ok(())
}

/// A descriptor that is readable when the process has ended.
fn open_process(pid: u32, sentinel: i32) -> Result<OwnedFd> {
    // SAFETY: a system call with numbers alone, which gives a descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    let error = std::io::Error::last_os_error().raw_os_error();
    if fd < 0 && error == Some(libc::ESRCH) {
        end_now();
    }
    let fd = if fd < 0 { duplicate(sentinel)? } else { fd as i32 };
    // SAFETY: a descriptor that was just made belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn duplicate(descriptor: i32) -> Result<i32> {
    // SAFETY: a system call with numbers alone.
    let fd = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    if fd < 0 { Err(failed("opening the process to end with")) } else { Ok(fd) }
}

fn failed(what: &str) -> Error {
    Error::last_os(what)
}

/// What the thread does.
fn wait(watch: &Watch) {
    if has_ended(watch) {
        end_now();
    }
}

/// Waits for the end of the process. False: the thread is to stop, or the program has closed a descriptor.
fn has_ended(watch: &Watch) -> bool {
    let waiting = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut fds = [waiting(watch.end.raw()), waiting(watch.stop.descriptor())];
    // BOUND: each round was interrupted by a signal.
    while watch.end.is_ours() {
        // SAFETY: two live structs of this frame.
        if unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) } > 0 {
            // Asked again: the number may be another file's since the wait began.
            return tells_of_an_end(fds[0]) && watch.end.is_ours();
        }
    }
    false
}

fn is_readable(descriptor: i32) -> bool {
    let mut fd = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live struct of this frame.
    unsafe { libc::poll(&mut fd, 1, 0) == 1 && tells_of_an_end(fd) }
}

/// Not that the number is nobody's, which `poll` tells, too.
fn tells_of_an_end(asked: libc::pollfd) -> bool {
    asked.revents & (libc::POLLIN | libc::POLLHUP) != 0
}

/// As `kill -9`: nothing that a worker has is worth waiting for, and its threads may be anywhere.
fn end_now() -> ! {
    // SAFETY: a signal to this process; it does not return. Should it be kept from it, the exit does not.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
        libc::_exit(1)
    }
}

fn prepare_for_forks() -> Result<()> {
    static DONE: OnceLock<bool> = OnceLock::new();
    if *DONE.get_or_init(|| at_fork(before_fork, in_parent, in_child).is_ok()) {
        return Ok(());
    }
    Err(failed("registering fork handlers"))
}

extern "C" fn before_fork() {
    STATE.lock_across_fork();
    // SAFETY: the lock is held from here to the handlers after the fork; no second reference is kept.
    let state = unsafe { STATE.forked() };
    if let (Some(watch), Some(thread)) = (&state.watch, state.thread.take()) {
        watch.stop.fill();
        thread.join();
    }
}

extern "C" fn in_parent() {
    STATE.unlock_after_fork();
}

/// The child is nobody's worker.
extern "C" fn in_child() {
    // SAFETY: as above, in the child's copy.
    unsafe { STATE.forked() }.watch = None;
    STATE.unlock_after_fork();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn put(from: i32, to: i32) {
        // SAFETY: the test plays the program that uses a number which is not its own.
        assert!(unsafe { libc::dup2(from, to) } >= 0);
    }

    fn watch(end: &Pipe) -> Watch {
        let end = duplicate(end.descriptor()).unwrap();
        // SAFETY: a descriptor that was just made belongs to nobody else.
        Watch { end: Kept::new(unsafe { OwnedFd::from_raw_fd(end) }), stop: Pipe::new().unwrap() }
    }

    #[test]
    fn an_end_is_told_and_so_is_a_stop() {
        let end = Pipe::new().unwrap();
        let watch = watch(&end);
        watch.stop.fill();
        assert!(!has_ended(&watch));
        end.fill();
        assert!(has_ended(&watch));
    }

    /// Such a program was killed as if its pool had been.
    #[test]
    fn a_program_that_closes_all_descriptors_does_not_end_with_them() {
        let (end, other) = (Pipe::new().unwrap(), Pipe::new().unwrap());
        other.fill();
        let watch = Arc::new(watch(&end));
        let waiter = std::thread::spawn({
            let watch = watch.clone();
            move || has_ended(&watch)
        });
        std::thread::sleep(Duration::from_millis(50));
        put(other.descriptor(), watch.end.raw());
        put(other.descriptor(), watch.stop.descriptor());
        put(other.others_descriptor(), watch.stop.others_descriptor());
        assert!(!waiter.join().unwrap(), "what comes at that number is another file's");
        assert!(!has_ended(&watch), "nor when a fork is over");
    }
}
