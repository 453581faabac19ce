//! Waking a process of this user whose loop waits on a descriptor: a byte in a pipe of its own, and no other.
//!
//! A pipe is named by process, descriptor, device and inode. Process and descriptor say where to look; the device and
//! inode say whether what is found there is the very pipe. A program that took the process's place by `exec` has other
//! pipes with other inodes, whatever numbers their descriptors have, and ours went with the program before (they are
//! closed on `exec`). Nothing that is not that pipe is even opened.
//!
//! Why a pipe: an eventfd can't be opened by another process, and one handed over through a socket would have to be
//! handed to every writer to come. A socket with a name in the abstract namespace can be filled by any user of the
//! machine, and is not seen from another network namespace.

use super::descriptor::Kept;
use std::fs::{Metadata, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

/// Which pipe a descriptor is of. No two pipes have the same while both live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeId {
    /// The device of the kernel's pipes.
    pub device: u64,
    /// The number that the kernel gave the pipe.
    pub inode: u64,
}

impl PipeId {
    fn of(data: &Metadata) -> Option<Self> {
        data.file_type().is_fifo().then(|| Self { device: data.dev(), inode: data.ino() })
    }
}

/// Writes a byte into a pipe that is open as `descriptor` in process `pid`, if it is the pipe `id`. One that is gone or
/// full needs none. False: the byte could not be written and is still wanted, as where this process has no descriptor left.
pub fn tell(pid: u32, descriptor: i32, id: PipeId) -> bool {
    write_into(&format!("/proc/{pid}/fd/{descriptor}"), id).is_ok()
}

fn write_into(path: &str, id: PipeId) -> std::io::Result<()> {
    // Looked at first: opening something else, a tape drive say, may have an effect.
    if !is_there(std::fs::metadata(path), id)? {
        return Ok(());
    }
    // Not blocking, so that a full one holds nobody up. For reading as well, so that one whose reader goes meanwhile
    // is no broken pipe, which would be a signal.
    let pipe = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let mut pipe = match pipe {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    // Again: another one may have come to the place. What is open stays what it is.
    if !is_there(pipe.metadata(), id)? {
        return Ok(());
    }
    match pipe.write(&[1]) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// Whether a place has the very pipe; it has not where nothing is there any more.
fn is_there(data: std::io::Result<Metadata>, id: PipeId) -> std::io::Result<bool> {
    match data {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        data => Ok(PipeId::of(&data?) == Some(id)),
    }
}

/// A pipe of this process: the end to wait on, and the end that others open. An end that the program has closed is left
/// alone: its number may be another file's.
#[derive(Debug)]
pub struct Pipe {
    reader: Kept,
    writer: Kept,
    id: PipeId,
}

impl Pipe {
    /// None when there is no descriptor to be had.
    pub fn new() -> Option<Self> {
        Self::kept_by(Kept::where_it_is)
    }

    /// The same at high numbers, which programs seldom close.
    pub(super) fn high() -> Option<Self> {
        Self::kept_by(Kept::new)
    }

    fn kept_by(keep: fn(OwnedFd) -> Kept) -> Option<Self> {
        let mut ends = [0; 2];
        // SAFETY: the array has room for the two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
            return None;
        }
        // SAFETY: descriptors that were just made belong to nobody else.
        let [reader, writer] = ends.map(|fd| keep(unsafe { OwnedFd::from_raw_fd(fd) }));
        let (device, inode) = writer.file()?;
        Some(Self { reader, writer, id: PipeId { device, inode } })
    }

    /// The descriptor to wait on.
    pub fn descriptor(&self) -> i32 {
        self.reader.raw()
    }

    /// The descriptor that others open.
    pub fn others_descriptor(&self) -> i32 {
        self.writer.raw()
    }

    /// By what others know it.
    pub fn id(&self) -> PipeId {
        self.id
    }

    /// Takes all bytes out.
    pub fn drain(&self) {
        if !self.reader.is_ours() {
            return;
        }
        let mut bytes = [0_u8; 64];
        // BOUND: the bytes that fit a pipe, 64 KiB; one that is filled all the time is left as it is.
        for _ in 0..2048 {
            // SAFETY: a buffer of this frame, and a descriptor that is ours. No copy of it: there may be no room for one.
            let len = unsafe { libc::read(self.reader.raw(), bytes.as_mut_ptr().cast(), bytes.len()) };
            if len <= 0 {
                break;
            }
        }
    }

    /// Puts a byte in; a full pipe needs none. False: the program has closed an end.
    pub fn fill(&self) -> bool {
        // Without a reader the byte would be a signal.
        let is_whole = self.reader.is_ours() && self.writer.is_ours();
        // SAFETY: one byte that lives for ever, and a descriptor that is ours.
        is_whole && unsafe { libc::write(self.writer.raw(), [1_u8].as_ptr().cast(), 1) } != 0
    }
}

#[cfg(test)]
pub(super) fn is_readable(descriptor: i32) -> bool {
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live struct of this frame.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_told_through_proc() {
        let pipe = Pipe::new().unwrap();
        assert!(!is_readable(pipe.descriptor()));
        assert!(tell(std::process::id(), pipe.others_descriptor(), pipe.id()));
        assert!(is_readable(pipe.descriptor()));
        pipe.drain();
        assert!(!is_readable(pipe.descriptor()));
        assert!(tell(std::process::id(), -1, pipe.id()) && tell(0, 0, pipe.id()), "who is gone wants no byte");
    }

    #[test]
    fn an_end_that_the_program_closed_is_left_alone() {
        let (pipe, other) = (Pipe::new().unwrap(), Pipe::new().unwrap());
        for (from, to) in
            [(other.descriptor(), pipe.descriptor()), (other.others_descriptor(), pipe.others_descriptor())]
        {
            // SAFETY: the test plays the program that uses numbers which are not its own.
            assert!(unsafe { libc::dup2(from, to) } >= 0);
        }
        assert!(!pipe.fill() && !is_readable(other.descriptor()), "no byte for another file");
        assert!(other.fill());
        pipe.drain();
        assert!(is_readable(other.descriptor()), "no byte of another file");
        let numbers = [pipe.descriptor(), pipe.others_descriptor()];
        drop(pipe);
        // SAFETY: the numbers are the test's own since it put its files there.
        let left = numbers.map(|fd| Kept::where_it_is(unsafe { OwnedFd::from_raw_fd(fd) }));
        assert!(left.iter().all(Kept::is_ours), "they are open still");
    }

    #[test]
    fn another_pipe_in_its_place_gets_nothing() {
        let (pipe, other) = (Pipe::new().unwrap(), Pipe::new().unwrap());
        tell(std::process::id(), other.others_descriptor(), pipe.id());
        let elsewhere = PipeId { device: pipe.id().device + 1, ..pipe.id() };
        tell(std::process::id(), pipe.others_descriptor(), elsewhere);
        assert!(!is_readable(other.descriptor()) && !is_readable(pipe.descriptor()));
    }
}
