//! Telling a process of this user through a pipe of its own: a byte in the pipe makes its descriptor readable for
//! selectors, Qt and asyncio.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Writes a byte into the pipe that is open as `descriptor` in process `pid`. A pipe that is gone or full needs none.
pub fn tell(pid: u32, descriptor: i32) {
    let path = format!("/proc/{pid}/fd/{descriptor}");
    // A pipe can be opened anew through /proc; not blocking, so that a full one holds nobody up.
    let pipe = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    if let Ok(mut pipe) = pipe
        && is_pipe(&pipe)
    {
        let _ = pipe.write(&[1]);
    }
}

fn is_pipe(file: &std::fs::File) -> bool {
    use std::os::unix::fs::FileTypeExt;
    file.metadata().is_ok_and(|data| data.file_type().is_fifo())
}

/// A pipe of this process: the end to wait on, and the end that others open.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// None when there is no descriptor to be had.
    pub fn new() -> Option<Self> {
        let mut ends = [0; 2];
        // SAFETY: the array has room for the two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
            return None;
        }
        // SAFETY: descriptors that were just made belong to nobody else.
        let [reader, writer] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Some(Self { reader, writer })
    }

    /// The descriptor to wait on.
    pub fn descriptor(&self) -> i32 {
        self.reader.as_raw_fd()
    }

    /// The descriptor that others open.
    pub fn others_descriptor(&self) -> i32 {
        self.writer.as_raw_fd()
    }

    /// Takes all bytes out.
    pub fn drain(&self) {
        let Ok(reader) = self.reader.try_clone() else { return };
        let mut reader = std::fs::File::from(reader);
        let mut bytes = [0; 64];
        while reader.read(&mut bytes).is_ok_and(|len| len > 0) {}
    }

    /// Puts a byte in.
    pub fn fill(&self) {
        let Ok(writer) = self.writer.try_clone() else { return };
        let _ = std::fs::File::from(writer).write(&[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_told_through_proc() {
        let pipe = Pipe::new().unwrap();
        let mut poll = libc::pollfd { fd: pipe.descriptor(), events: libc::POLLIN, revents: 0 };
        let mut is_readable = || {
            // SAFETY: one live struct of this frame.
            unsafe { libc::poll(&mut poll, 1, 0) == 1 }
        };
        assert!(!is_readable());
        tell(std::process::id(), pipe.others_descriptor());
        assert!(is_readable());
        pipe.drain();
        assert!(!is_readable());
        tell(std::process::id(), -1);
        tell(0, 0);
    }
}
