//! Where this process offers objects to other users: a desk for each name, with a socket, and one thread that answers.
//!
//! Who connects is who the kernel says. Who may read gets a letter and the file of the data, opened to be read only; all
//! others get a refusal. Nothing here waits for who connects: a letter fits into the socket, or is not sent. A connection
//! stays until either side ends it; so the reader hears of the end of the offer, by a farewell or without one, and this side
//! of the end of the reader.
//!
//! The thread ends before a fork, and the parent starts another one. A child closes the sockets, for they are its parent's.

use super::letter::Letter;
use crate::error::Result;
use crate::os::descriptor::Kept;
use crate::os::fork;
use crate::os::limits::open_files_limit;
use crate::os::monotonic;
use crate::os::offers::{Access, Named};
use crate::os::process::at_exit;
use crate::os::socket::{Awaited, Bell, Socket, poll};
use crate::os::thread::Thread;
use crate::prim::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
    SpinLock,
};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Connections that a process has at the most; fewer where it may not have many descriptors.
const MOST_READERS: usize = 256;
/// Letters of one name that nobody has read yet, at the most: the kernel counts their files for this user, in all processes.
const MOST_UNREAD: usize = 32;
/// So many connections are answered before anything else is looked at.
const A_TURN: usize = 64;
/// How long nobody is answered while no descriptor is free.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it is looked whether the program has closed descriptors, or another process has taken a name, for nobody tells.
const PATROL: Duration = Duration::from_secs(1);
/// What who reads hears at the end of an offer.
const FAREWELL: &[u8] = b"withdrawn";

/// What is offered under one name, and to whom.
pub(super) struct Desk {
    pub name: String,
    pub named: Named,
    pub access: Access,
    /// What is said to who may read, and the file that goes along.
    pub letter: Vec<u8>,
    pub data: Kept,
    /// The object, which lives as long as it is offered.
    pub kept: Keeper,
    readers: Vec<Socket>,
}

/// Whatever keeps an object.
pub(super) type Keeper = Box<dyn Send>;

struct Office {
    desks: Vec<Desk>,
    clerk: Option<Clerk>,
    /// Forks in progress.
    forks: usize,
    /// What is let go of when somebody calls: what a forked child got from its parent, and what was lost.
    left: Vec<Keeper>,
}

/// The thread that answers.
struct Clerk {
    thread: Thread,
    bell: Arc<Bell>,
    leaves: Arc<AtomicBool>,
}

static OFFICE: SpinLock<Office> = SpinLock::new(Office { desks: Vec::new(), clerk: None, forks: 0, left: Vec::new() });

impl Desk {
    pub(super) fn new(
        name: &str,
        (named, access): (Named, Access),
        (letter, data): (Vec<u8>, OwnedFd),
        kept: Keeper,
    ) -> Self {
        Self { name: name.to_owned(), named, access, letter, data: Kept::new(data), kept, readers: Vec::new() }
    }

    /// Answers who has connected; false: no descriptor is free for the next one.
    fn serve(&mut self, room: &mut usize) -> bool {
        let asked: Vec<_> = self.sockets().collect();
        let ready = poll(&asked, Some(Duration::ZERO));
        let (mut answers, before) = (ready.iter().skip(1), self.readers.len());
        // Nobody who reads has anything to say, and only the end of the whole connection counts: until then a letter that
        // nobody reads is on its way, and a user may have few files on their way.
        self.readers.retain(|reader| answers.next() != Some(&true) && reader.is_open());
        *room += before - self.readers.len();
        ready.first() != Some(&true) || !self.named.socket.is_open() || self.accept(room)
    }

    /// What is waited for: who connects, and the ends of those who read.
    fn sockets(&self) -> impl Iterator<Item = (RawFd, Awaited)> {
        let listener = std::iter::once((self.named.socket.raw(), Awaited::Message));
        listener.chain(self.readers.iter().map(|reader| (reader.raw(), Awaited::End)))
    }

    /// Whether so many letters were not read yet that no more are sent.
    fn is_unheard(&self) -> bool {
        self.readers.iter().filter(|reader| reader.has_unread()).count() >= MOST_UNREAD
    }

    fn accept(&mut self, room: &mut usize) -> bool {
        for _ in 0..A_TURN {
            match self.named.socket.accept() {
                Ok(Some(reader)) => self.answer(reader, room),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn answer(&mut self, reader: Socket, room: &mut usize) {
        let Ok(peer) = reader.peer() else { return };
        // Whatever the program has done with its descriptors, nobody gets another file, nor this one to write to.
        if !self.data.only_reads() {
            return;
        }
        if !self.access.admits(&peer) {
            let _ = reader.send(&Letter::Refused.encode(), None);
        } else if *room == 0 || self.is_unheard() {
            let _ = reader.send(&Letter::Busy.encode(), None);
        } else if reader.send(&self.letter, Some(self.data.as_fd())).is_ok() {
            *room -= 1;
            self.readers.push(reader);
        }
    }

    /// Ends the offer, and gives what kept the object.
    fn close(self) -> Keeper {
        self.named.remove();
        self.readers.iter().for_each(|reader| _ = reader.send(FAREWELL, None));
        self.kept
    }
}

/// Offers something from now on, in the place of what this process offered under the name.
///
/// # Errors
/// `Os` when the system gives no thread, or no descriptor.
pub(super) fn open(desk: Desk) -> Result<()> {
    watch()?;
    let name = desk.name.clone();
    let mut office = OFFICE.lock();
    let before = office.take(&name);
    office.desks.push(desk);
    let hired = office.hire();
    office.ring();
    drop(office);
    drop(before.map(Desk::close));
    hired.inspect_err(|_| withdraw(&name))
}

/// Ends what this process offers under a name, if it offers anything.
pub(super) fn withdraw(name: &str) {
    let mut office = OFFICE.lock();
    let (desk, left) = (office.take(name), std::mem::take(&mut office.left));
    let clerk = if office.desks.is_empty() { office.clerk.take() } else { None };
    office.ring();
    drop(office);
    dismiss(clerk);
    // The readers hear of it before anything may be written to the place.
    drop((desk.map(Desk::close), left));
}

/// Whether this process offers anything under a name.
pub(super) fn has(name: &str) -> bool {
    OFFICE.lock().desks.iter().any(|desk| desk.name == name)
}

impl Office {
    fn take(&mut self, name: &str) -> Option<Desk> {
        let at = self.desks.iter().position(|desk| desk.name == name)?;
        Some(self.desks.swap_remove(at))
    }

    /// Has the clerk look what there is by now.
    fn ring(&mut self) {
        let is_lost = |clerk: &mut Clerk| !clerk.bell.ring();
        // Where the program has closed the bell, another one comes with a new bell; this one leaves when it looks next.
        if let Some(clerk) = self.clerk.take_if(is_lost) {
            clerk.leaves.store(true, Release);
            clerk.thread.forget();
            let _ = self.hire();
        }
    }

    /// Has somebody answer, if there is anything to be had and nobody does yet.
    fn hire(&mut self) -> Result<()> {
        if self.clerk.is_some() || self.desks.is_empty() || self.forks > 0 {
            return Ok(());
        }
        let (bell, leaves) = (Arc::new(Bell::new()?), Arc::new(AtomicBool::new(false)));
        let mine = (bell.clone(), leaves.clone());
        let thread = Thread::start("ndshare-offers", move || work(&mine.0, &mine.1))?;
        self.clerk = Some(Clerk { thread, bell, leaves });
        Ok(())
    }

    /// Answers all who have connected; false: no descriptor is free for the next one. On patrol it is looked whether the names
    /// are still there.
    fn serve(&mut self, is_patrol: bool) -> bool {
        let most = MOST_READERS.min(usize::try_from(open_files_limit() / 4).unwrap_or(MOST_READERS));
        let mut room = most.saturating_sub(self.desks.iter().map(|desk| desk.readers.len()).sum());
        let served: Vec<bool> = self.desks.iter_mut().map(|desk| desk.serve(&mut room)).collect();
        // Where the program has closed the socket, or the file, or another process has taken the name, nobody comes any more.
        let is_lost = |desk: &mut Desk| {
            !desk.named.socket.is_open() || !desk.data.only_reads() || is_patrol && !desk.named.is_shown()
        };
        let lost = self.desks.extract_if(.., is_lost);
        self.left.extend(lost.map(Desk::close));
        served.into_iter().all(|served| served)
    }
}

fn dismiss(clerk: Option<Clerk>) {
    if let Some(clerk) = clerk {
        clerk.leaves.store(true, Release);
        clerk.bell.ring();
        clerk.thread.join();
    }
}

/// What the thread does all its life.
fn work(bell: &Bell, leaves: &AtomicBool) {
    let rings = (bell.raw(), Awaited::Message);
    let asked = || std::iter::once(rings).chain(OFFICE.lock().desks.iter().flat_map(Desk::sockets)).collect::<Vec<_>>();
    let mut patrolled = monotonic();
    // BOUND: until it is dismissed.
    while !leaves.load(Acquire) {
        poll(&asked(), Some(PATROL.saturating_sub(monotonic() - patrolled)));
        bell.silence();
        if leaves.load(Acquire) {
            return;
        }
        // By now the descriptors may be others: they are asked anew, under the lock.
        let is_patrol = monotonic() - patrolled >= PATROL;
        if is_patrol {
            patrolled = monotonic();
        }
        let served = OFFICE.lock().serve(is_patrol);
        if !served {
            poll(&[rings], Some(PAUSE));
        }
        // However many connect: whoever waits for the lock gets it between two turns.
        std::thread::yield_now();
    }
}

/// From now on forks and the end of this process are seen.
fn watch() -> Result<()> {
    static HANDLERS: OnceLock<Result<()>> = OnceLock::new();
    static IS_SEEN: AtomicBool = AtomicBool::new(false);
    if !IS_SEEN.swap(true, Relaxed) {
        at_exit(close);
    }
    HANDLERS.get_or_init(|| fork::at_fork(before, in_parent, in_child)).clone()
}

/// At the end of this process nothing is offered any more.
extern "C" fn close() {
    let mut office = OFFICE.lock();
    let (desks, clerk) = (std::mem::take(&mut office.desks), office.clerk.take());
    drop(office);
    dismiss(clerk);
    desks.into_iter().for_each(|desk| drop(desk.close()));
}

extern "C" fn before() {
    let mut office = OFFICE.lock();
    office.forks += 1;
    let clerk = office.clerk.take();
    drop(office);
    dismiss(clerk);
    OFFICE.lock_across_fork();
}

extern "C" fn in_parent() {
    // SAFETY: this thread holds the lock since `before`, and keeps no second reference.
    let office = unsafe { OFFICE.forked() };
    office.forks -= 1;
    // Where the system gives no thread, who connects waits until something is offered or taken back.
    let _ = office.hire();
    OFFICE.unlock_after_fork();
}

extern "C" fn in_child() {
    // SAFETY: as above, in the child's copy.
    let office = unsafe { OFFICE.forked() };
    office.forks = 0;
    let desks = std::mem::take(&mut office.desks);
    // The sockets are closed here, or readers would not hear of the parent's end. Giving up holds takes locks.
    office.left.extend(desks.into_iter().map(|desk| desk.kept));
    OFFICE.unlock_after_fork();
}
