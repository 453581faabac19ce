//! Unix sockets between users: messages that come whole or not at all, who is at the other end as the kernel says, and
//! files that go along. Nothing here blocks but `poll`, which has a time limit.

use super::descriptor::Kept;
use super::pipe::Pipe;
use crate::error::{Error, Result};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How many connections wait for an answer before the next ones have to try again.
const BACKLOG: libc::c_int = 128;
/// Files that a message is looked through for; those beyond are closed by the kernel.
const MOST_FILES: usize = 8;
/// Groups that a process is in, as a first guess.
const FEW_GROUPS: usize = 64;
/// More groups than Linux lets a process be in are none.
const MOST_GROUPS: usize = 1 << 16;

/// A socket that keeps messages whole: one that listens, or one end of a connection.
#[derive(Debug)]
pub struct Socket(Kept);

/// Who is at the other end, as the kernel saw it when the connection was made, or when it was first listened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its process id, in this process's numbering; 0 where it has none there.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
}

/// A message, and the files that came along.
pub type Received = (usize, Vec<OwnedFd>);

impl Socket {
    fn new() -> io::Result<Self> {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: numbers only.
        owned(unsafe { libc::socket(libc::AF_UNIX, kind, 0) }).map(|fd| Self(Kept::new(fd)))
    }

    /// Listens at `path`, where nothing is yet. At no moment others have more rights to it than `mode` says.
    pub fn listen(path: &Path, mode: u32) -> io::Result<Self> {
        let (socket, (address, len)) = (Self::new()?, address_of(path)?);
        // SAFETY: an open descriptor, and an address of this frame with its length. What it is called gets the mode of the
        // socket, less the umask.
        let failed = unsafe {
            libc::fchmod(socket.raw(), mode) != 0
                || libc::bind(socket.raw(), (&raw const address).cast(), len) != 0
                || libc::listen(socket.raw(), BACKLOG) != 0
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    /// Connects to who listens at `path`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let (socket, (address, len)) = (Self::new()?, address_of(path)?);
        // SAFETY: an open descriptor, and an address of this frame with its length.
        let failed = unsafe { libc::connect(socket.raw(), (&raw const address).cast(), len) } != 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    /// The next connection; none when there is none now.
    pub fn accept(&self) -> io::Result<Option<Self>> {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: an open descriptor; who connects is asked for later.
        let fd = unsafe { libc::accept4(self.raw(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
        unless_it_would_block(owned(fd).map(|fd| Self(Kept::new(fd))))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> io::Result<Peer> {
        // SAFETY: all zeros is a valid `ucred`, a plain struct of integers.
        let mut who: libc::ucred = unsafe { zeroed() };
        self.option(libc::SO_PEERCRED, (&raw mut who).cast(), size_of::<libc::ucred>())?;
        let pid = u32::try_from(who.pid).unwrap_or(0);
        Ok(Peer { pid, uid: who.uid, gid: who.gid, groups: self.peer_groups()? })
    }

    fn peer_groups(&self) -> io::Result<Vec<u32>> {
        let mut groups = vec![0_u32; FEW_GROUPS];
        // BOUND: the second time there is room for as many as there can be.
        loop {
            let bytes = groups.len() * size_of::<u32>();
            match self.option(libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), bytes) {
                Ok(len) => {
                    groups.truncate(len / size_of::<u32>());
                    return Ok(groups);
                }
                Err(error) if error.raw_os_error() == Some(libc::ERANGE) && groups.len() < MOST_GROUPS => {
                    groups.resize(MOST_GROUPS, 0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Fills `bytes` at `value`, and says how many it filled.
    fn option(&self, name: libc::c_int, value: *mut libc::c_void, bytes: usize) -> io::Result<usize> {
        let mut len = bytes as libc::socklen_t;
        // SAFETY: both callers pass live memory of so many bytes, for integers of any value.
        let failed = unsafe { libc::getsockopt(self.raw(), libc::SOL_SOCKET, name, value, &mut len) } != 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(len as usize) }
    }

    /// Sends one message, with a file if there is one. Fails at once when the other end has not read the earlier ones.
    pub fn send(&self, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut control = Control::new();
        let mut message = control.message(&mut part);
        match file {
            Some(file) => {
                let len = size_of::<RawFd>() as libc::c_uint;
                // SAFETY: the buffer has room for a header and a descriptor, at the header's alignment.
                unsafe {
                    message.msg_controllen = libc::CMSG_SPACE(len) as usize;
                    let header = libc::CMSG_FIRSTHDR(&message);
                    (*header).cmsg_level = libc::SOL_SOCKET;
                    (*header).cmsg_type = libc::SCM_RIGHTS;
                    (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
                    libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(file.as_raw_fd());
                }
            }
            None => (message.msg_control, message.msg_controllen) = (std::ptr::null_mut(), 0),
        }
        // SAFETY: the message names memory of this frame and of the caller's, which the call only reads.
        let sent = unsafe { libc::sendmsg(self.raw(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next message, as far as it fits into `buffer`; none when there is none now. No byte: the other end is gone.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = Control::new();
        let mut message = control.message(&mut part);
        // SAFETY: the message names memory of this frame and of the caller's, with its lengths.
        let got = unsafe { libc::recvmsg(self.raw(), &mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
        let got = if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) };
        let Some(len) = unless_it_would_block(got)? else { return Ok(None) };
        let files = files_of(&message);
        match cut_off(message.msg_flags) {
            Some(what) => Err(io::Error::new(io::ErrorKind::InvalidData, what)),
            None => Ok(Some((len, files))),
        }
    }

    /// Whether the other end has not read all that was sent to it.
    pub fn has_unread(&self) -> bool {
        let mut bytes: libc::c_int = 0;
        // SAFETY: an open descriptor, and a live number that the call fills.
        let failed = unsafe { libc::ioctl(self.raw(), libc::TIOCOUTQ, &raw mut bytes) } != 0;
        !failed && bytes > 0
    }

    /// The descriptor, to be waited for.
    pub fn raw(&self) -> RawFd {
        self.0.raw()
    }

    /// Whether the program has left the descriptor open.
    pub fn is_open(&self) -> bool {
        self.0.is_ours()
    }
}

/// What of a message did not come along, by the flags that it came with.
fn cut_off(flags: libc::c_int) -> Option<&'static str> {
    match flags {
        flags if flags & libc::MSG_TRUNC != 0 => Some("a message that is longer than any of ours"),
        // The kernel keeps back files that there is no room for, and those for which no number is free.
        flags if flags & libc::MSG_CTRUNC != 0 => Some(
            "a message without all of its files: no descriptor is free (close files, or raise ulimit -n), or they are more \
             than any of ours has",
        ),
        _ => None,
    }
}

/// Room for the files of a message, at the alignment of their header.
#[repr(C)]
struct Control {
    bytes: [u64; 16],
}

// SAFETY: a number of a number.
const _: () = assert!(unsafe { libc::CMSG_SPACE((MOST_FILES * size_of::<RawFd>()) as libc::c_uint) } as usize <= 128);

impl Control {
    fn new() -> Self {
        Self { bytes: [0; 16] }
    }

    fn message(&mut self, part: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: all zeros is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { zeroed() };
        (message.msg_iov, message.msg_iovlen) = (part, 1);
        (message.msg_control, message.msg_controllen) = (self.bytes.as_mut_ptr().cast(), size_of::<Self>());
        message
    }
}

/// The files that came with a message; whoever gets them closes them.
fn files_of(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut files = Vec::new();
    // SAFETY: the kernel has filled the buffer, which lives; each header's length covers its descriptors, which are new
    // and nobody else's.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        // BOUND: the headers in the buffer.
        while !header.is_null() {
            if ((*header).cmsg_level, (*header).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let (data, len) = (libc::CMSG_DATA(header), (*header).cmsg_len - libc::CMSG_LEN(0) as usize);
                for index in 0..len / size_of::<RawFd>() {
                    files.push(OwnedFd::from_raw_fd(data.cast::<RawFd>().add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    files
}

/// What one thread rings and another one waits for. A pipe and no eventfd: a program may close the descriptor, and all
/// eventfds have one inode, so the next one at this number would be taken for this one.
#[derive(Debug)]
pub struct Bell(Pipe);

impl Bell {
    /// A bell that is silent.
    ///
    /// # Errors
    /// `Os` without a free descriptor.
    pub fn new() -> Result<Self> {
        Pipe::high().map(Self).ok_or_else(|| Error::last_os("making a pipe"))
    }

    /// Wakes who waits, or who comes to wait. False: the program has closed the descriptor.
    pub fn ring(&self) -> bool {
        self.0.fill()
    }

    /// Is silent from now on.
    pub fn silence(&self) {
        self.0.drain();
    }

    /// The descriptor, to be waited for.
    pub fn raw(&self) -> RawFd {
        self.0.descriptor()
    }
}

/// What is waited for at a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// That there is something to be had, be it the end or an error.
    Message,
    /// That the connection has ended at both ends, or an error.
    End,
}

/// How long a wait takes that the system refuses, as where there are more descriptors than the process may have, or where the
/// program has closed one: whoever waits in a loop would keep a processor busy.
const REFUSED: Duration = Duration::from_millis(50);

/// Waits until one of `descriptors` has what is awaited of it, at most so long (none: for ever); a signal may end the wait
/// early.
pub fn poll(descriptors: &[(RawFd, Awaited)], longest: Option<Duration>) -> Vec<bool> {
    let ask = |&(fd, awaited): &(RawFd, Awaited)| {
        let events = if awaited == Awaited::Message { libc::POLLIN } else { 0 };
        libc::pollfd { fd, events, revents: 0 }
    };
    let mut asked: Vec<libc::pollfd> = descriptors.iter().map(ask).collect();
    let time = longest.map(|longest| libc::timespec {
        tv_sec: longest.as_secs() as libc::time_t,
        tv_nsec: longest.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: a live table with its length, and a time of this frame or none.
    let count = unsafe { libc::ppoll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, time, std::ptr::null()) };
    let is_refused = match count {
        ..0 => io::Error::last_os_error().kind() != io::ErrorKind::Interrupted,
        0 => false,
        1.. => asked.iter().all(|one| one.revents & !libc::POLLNVAL == 0),
    };
    if is_refused {
        std::thread::sleep(longest.map_or(REFUSED, |longest| longest.min(REFUSED)));
    }
    asked.iter().map(|one| count > 0 && one.revents != 0).collect()
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn unless_it_would_block<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(got) => Ok(Some(got)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ECONNABORTED)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn address_of(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: all zeros is a valid `sockaddr_un`.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path that is too long for a socket"));
    }
    for (place, &byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = byte.cast_signed();
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_message_brings_its_file_and_says_who_sent_it() {
        let path = std::env::temp_dir().join(format!("ndshare-socket-{}", super::super::random_u64()));
        let listener = Socket::listen(&path, 0o600).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let client = Socket::connect(&path).unwrap();
        assert_eq!(poll(&[(listener.raw(), Awaited::Message)], None), [true]);
        let server = listener.accept().unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let peer = client.peer().unwrap();
        assert_eq!((peer.uid, peer.pid), (super::super::effective_uid(), std::process::id()));
        assert_eq!(server.peer().unwrap().gid, peer.gid);

        let mut buffer = [0; 16];
        assert!(client.receive(&mut buffer).unwrap().is_none());
        server.send(b"file", Some(client.0.as_fd())).unwrap();
        server.send(b"none", None).unwrap();
        server.send(&[0; 17], None).unwrap();
        let (len, files) = client.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..len], files.len()), (&b"file"[..], 1));
        drop(files);
        let (len, files) = client.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..len], files.len()), (&b"none"[..], 0));
        let cut = client.receive(&mut buffer).unwrap_err().to_string();
        assert!(cut.contains("longer than any of ours"), "{cut}");
        assert!(!server.has_unread());
        server.send(b"more", None).unwrap();
        assert!(server.has_unread());
        assert_eq!(client.receive(&mut buffer).unwrap().unwrap().0, 4);
        drop(server);
        assert_eq!(client.receive(&mut buffer).unwrap().unwrap().0, 0, "the end");
    }

    #[test]
    fn a_file_without_a_free_descriptor_is_no_message_that_is_too_long() {
        assert!(cut_off(libc::MSG_CTRUNC).unwrap().contains("no descriptor is free"));
        assert_eq!(cut_off(libc::MSG_TRUNC | libc::MSG_CTRUNC), Some("a message that is longer than any of ours"));
        assert_eq!(cut_off(libc::MSG_CMSG_CLOEXEC), None);
    }

    #[test]
    fn another_bell_at_the_number_of_one_that_the_program_closed_is_left_alone() {
        let (old, new) = (Bell::new().unwrap(), Bell::new().unwrap());
        // SAFETY: the test plays the program that uses a number which is not its own.
        assert!(unsafe { libc::dup2(new.raw(), old.raw()) } >= 0);
        let briefly = Some(Duration::from_millis(1));
        assert!(!old.ring(), "it is closed");
        assert_eq!(poll(&[(new.raw(), Awaited::Message)], briefly), [false]);
        assert!(new.ring());
        old.silence();
        assert_eq!(poll(&[(new.raw(), Awaited::Message)], briefly), [true]);
        let number = old.raw();
        drop(old);
        // SAFETY: the number is the test's own since it put the new bell there.
        assert!(Kept::new(unsafe { OwnedFd::from_raw_fd(number) }).is_ours(), "it is open still");
    }

    /// The thread that answers readers ran without a pause once the program had closed its descriptors.
    #[test]
    fn who_waits_for_a_number_that_is_nobodys_waits_a_little() {
        let begun = super::super::monotonic();
        assert_eq!(poll(&[(1 << 20, Awaited::Message)], None), [true]);
        assert!(super::super::monotonic() - begun >= REFUSED);
        let bell = Bell::new().unwrap();
        bell.ring();
        assert_eq!(poll(&[(1 << 20, Awaited::Message), (bell.raw(), Awaited::Message)], None), [true; 2]);
    }

    #[test]
    fn a_bell_wakes_who_comes_later() {
        let bell = Bell::new().unwrap();
        let briefly = Some(Duration::from_millis(1));
        assert_eq!(poll(&[(bell.raw(), Awaited::Message)], briefly), [false]);
        bell.ring();
        assert_eq!(poll(&[(bell.raw(), Awaited::Message)], None), [true]);
        bell.silence();
        assert_eq!(poll(&[(bell.raw(), Awaited::Message)], briefly), [false]);
        assert_eq!(poll(&[(-1, Awaited::Message), (1 << 20, Awaited::End)], briefly), [false, true]);
    }
}
