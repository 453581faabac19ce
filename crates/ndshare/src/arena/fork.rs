//! The arenas of this process, and what a forked child gets of them.
//!
//! Before a fork, each arena takes a slot for the child and sets the child's bit on every block that this process
//! holds; so the child is a participant with holds before it exists, and its death at any instant is an ordinary
//! one. Where no slot is to be had, the child is a guest of its parent: see `guests`.
//!
//! Bytes that point into a process are no use to another, and two processes that follow and free the same pointers
//! would ruin each other. So a block that holds some is parted before the fork: it is ordinary memory from then on.

use super::backing::Sign;
use super::guests::Guests;
use super::hold::Hold;
use super::private::Private;
use super::state::{Arena, NO_SLOT};
use crate::error::{Error, Result};
use crate::os::fork::{at_fork, begin_fork, between_forks, end_fork, set_known};
use crate::os::kill::{Point, point};
use crate::os::monotonic;
use crate::prim::{
    Ordering::{Relaxed, SeqCst},
    SpinLock,
};
use std::sync::{Arc, OnceLock, Weak};

/// An arena, and whether this process joined it to read only: it may have it once with each access.
type Name = (u64, bool);

struct Registry {
    arenas: Vec<(Name, Weak<Arena>)>,
    /// Those that references in flight keep.
    kept: Vec<Arc<Arena>>,
    pending: Option<Pending>,
}

/// What a fork in progress has prepared.
struct Pending {
    arenas: Vec<(Arc<Arena>, Result<Child>)>,
}

/// The child's slot, and its signs of life and of guests.
struct Child {
    slot: u32,
    sign: Sign,
    guests: Guests,
}

static REGISTRY: SpinLock<Registry> = SpinLock::new(Registry { arenas: Vec::new(), kept: Vec::new(), pending: None });

/// Sees every fork from now on. Before the first arena is joined: its sign of life must not go to a child.
pub(crate) fn watch() -> Result<()> {
    static HANDLERS: OnceLock<Result<()>> = OnceLock::new();
    // The child of a raw clone that inherited no arena has nothing that somebody should have prepared.
    if REGISTRY.lock().arenas.is_empty() {
        set_known();
    }
    let handlers = HANDLERS.get_or_init(|| {
        set_known();
        at_fork(before, in_parent, in_child)
    });
    handlers.clone()
}

/// Enters a new arena; gives the one with the same id and access back if another thread was faster.
pub(super) fn register(arena: Arena) -> Result<Arc<Arena>> {
    let arena = Arc::new(arena);
    let mut registry = REGISTRY.lock();
    let name = (arena.id(), arena.is_readonly());
    if let Some(other) = registry.find(name) {
        drop(registry);
        return Ok(other);
    }
    registry.arenas.push((name, Arc::downgrade(&arena)));
    Ok(arena)
}

/// The arena with this id, if this process has joined it with this access.
pub(super) fn joined(id: u64, is_readonly: bool) -> Option<Arc<Arena>> {
    REGISTRY.lock().find((id, is_readonly))
}

/// Removes arenas that are gone.
pub(super) fn forget(id: u64) {
    REGISTRY.lock().arenas.retain(|((other, _), arena)| *other != id || arena.strong_count() > 0);
}

/// Keeps an arena in this process while a reference that it sent is in flight: the receiver finds the arena through it.
pub(super) fn keep_in_flight(arena: &Arc<Arena>) {
    // RAW: a flag of this process alone, here and below.
    if arena.is_kept.load(SeqCst) || !arena.backing.is_shared() {
        return;
    }
    let mut registry = REGISTRY.lock();
    if !registry.kept.iter().any(|kept| Arc::ptr_eq(kept, arena)) {
        registry.kept.push(arena.clone());
    }
    arena.is_kept.store(true, SeqCst);
}

/// Lets the arenas go whose references have all been claimed or taken back.
///
/// Who issues one adds the record and then looks at `is_kept`; here it is cleared, and then records are looked for. So
/// one of the two sees the other.
pub(super) fn let_go() {
    let kept = REGISTRY.lock().kept.clone();
    for arena in &kept {
        arena.is_kept.store(false, SeqCst);
        if arena.has_own_tickets() {
            arena.is_kept.store(true, SeqCst);
        }
    }
    // What is removed goes after the registry is open again, for an arena that goes takes its lock.
    let mut gone = Vec::new();
    let mut registry = REGISTRY.lock();
    // RAW: as above, of this process alone.
    let (stay, idle) = registry.kept.drain(..).partition(|arena| arena.is_kept.load(SeqCst));
    registry.kept = stay;
    gone.extend::<Vec<Arc<Arena>>>(idle);
    drop(registry);
    drop(kept);
    drop(gone);
}

/// Those arenas that nothing else keeps in this process.
fn kept_in_flight() -> Vec<Arc<Arena>> {
    let registry = REGISTRY.lock();
    registry.kept.iter().filter(|arena| Arc::strong_count(arena) == 1).cloned().collect()
}

/// A new reference to the block that has all of `len_bytes` at `address`, in any arena of this process. None when
/// no arena has it, this process holds no such block, or the bytes reach beyond one block.
pub fn find(address: usize, len_bytes: usize) -> Option<Hold> {
    let arena = at_address(address)?;
    arena.find_block(address, len_bytes)
}

/// Whether an address lies in the data part of any arena of this process, and in no block that was parted.
pub fn is_inside(address: usize) -> bool {
    at_address(address).is_some_and(|arena| !arena.is_parted(address))
}

impl Arena {
    /// The arenas of this process that nothing keeps in it but references in flight that it sent.
    #[doc(hidden)]
    pub fn kept_in_flight() -> Vec<Arc<Self>> {
        kept_in_flight()
    }
}

fn at_address(address: usize) -> Option<Arc<Arena>> {
    // Dropped after the registry is open again: the last reference to an arena takes the registry's lock.
    let mut passed = Vec::new();
    let registry = REGISTRY.lock();
    for (_, arena) in &registry.arenas {
        let Some(arena) = arena.upgrade() else { continue };
        if arena.contains(address) {
            return Some(arena);
        }
        passed.push(arena);
    }
    None
}

impl Registry {
    fn find(&self, name: Name) -> Option<Arc<Arena>> {
        self.arenas.iter().find(|(other, _)| *other == name)?.1.upgrade()
    }
}

extern "C" fn before() {
    REGISTRY.lock_across_fork();
    // SAFETY: this thread holds the lock across the fork, and keeps no second reference.
    let registry = unsafe { REGISTRY.forked() };
    let arenas: Vec<_> = registry.arenas.iter().filter_map(|(_, arena)| arena.upgrade()).collect();
    let prepared = arenas.into_iter().map(|arena| {
        let child = prepare(&arena);
        (arena, child)
    });
    let arenas: Vec<_> = prepared.collect();
    registry.pending = Some(Pending { arenas });
    // Last, because the slots above were taken between forks.
    begin_fork();
}

/// Takes a slot for the child and locks the private part; an error says why there is no slot.
fn prepare(arena: &Arena) -> Result<Child> {
    let child = take_place(arena);
    point(Point::ForkSlot);
    arena.private.lock_across_fork();
    // SAFETY: this thread holds the lock across the fork, and keeps no second reference.
    let private = unsafe { arena.private.forked() };
    part_pointers(arena, private);
    let child = child?;
    for mine in private.held() {
        let Ok(block) = arena.control.block(mine.index) else { continue };
        block.words().set_bit(child.slot);
        point(Point::ForkBits);
        // The bump makes a free that looked before this bit stood fail.
        block.words().bump();
        point(Point::ForkBits);
    }
    Ok(child)
}

fn take_place(arena: &Arena) -> Result<Child> {
    arena.slot()?;
    let (slot, sign) = arena.settle()?;
    let guests = between_forks(|| Guests::new(&arena.backing, slot))?;
    sign.pass_to_children(true)?;
    arena.name_participant(slot, 0)?;
    Ok(Child { slot, sign, guests })
}

/// Takes the blocks that hold pointers out of the shared memory, under the address that they have.
fn part_pointers(arena: &Arena, private: &mut Private) {
    for (mine, judge) in private.suspects() {
        let address = arena.address(mine.span).addr();
        if judge(address, mine.span.len_bytes() as usize) && arena.backing.part(arena.file_range(mine.span)).is_ok() {
            private.set_parted(mine.index);
        }
    }
}

/// Ends the fork in this process: `settle` each arena, then open all locks.
fn finish(settle: impl Fn(&Arc<Arena>, Result<Child>)) {
    // SAFETY: this thread holds the lock since `before`, in the child as its copy.
    let registry = unsafe { REGISTRY.forked() };
    let arenas = registry.pending.take().map_or_else(Vec::new, |pending| pending.arenas);
    let settled = arenas.into_iter().map(|(arena, child)| {
        settle(&arena, child);
        arena.private.unlock_after_fork();
        arena
    });
    let arenas: Vec<_> = settled.collect();
    // Only now: no thread may change its signs of guests before what the new guest has is noted as lent.
    end_fork();
    REGISTRY.unlock_after_fork();
    // Only now: the last reference to an arena takes the registry's lock.
    drop(arenas);
}

extern "C" fn in_parent() {
    finish(|arena, child| {
        if child.is_err() && arena.slot().is_ok() {
            // Before the private lock opens, so that no other thread gives back what the guest has.
            // SAFETY: this thread holds the private lock since `before`.
            let private = unsafe { arena.private.forked() };
            arena.guests.lock().lend(private);
        }
        // Dropping the child's signs unmaps them here; the child, if there is one, keeps them alive.
        drop(child);
    });
}

extern "C" fn in_child() {
    set_known();
    finish(become_child);
}

fn become_child(arena: &Arc<Arena>, child: Result<Child>) {
    // SAFETY: this thread, the child's only one, holds the lock as its parent took it.
    let private = unsafe { arena.private.forked() };
    // What the parent keeps ready is the parent's.
    drop(private.take_quick());
    private.forget_deferred();
    private.forget_lent();
    let parent = arena.pid.swap(std::process::id(), Relaxed);
    arena.swept_ms.store(monotonic().as_millis() as u64, Relaxed);
    // SAFETY: nobody else is in this process; the parent's sign is not mapped here, so it must not be unmapped.
    let sign = unsafe { arena.sign.forked() };
    std::mem::forget(sign.take());
    match child {
        Ok(child) => take_seat(arena, sign, child),
        Err(cause) => become_guest(arena, parent, &cause),
    }
    point(Point::ForkChild);
}

fn take_seat(arena: &Arena, sign: &mut Option<Sign>, child: Child) {
    // A child whose sign also its own children would keep only looks alive for longer.
    let _ = child.sign.pass_to_children(false);
    *sign = Some(child.sign);
    // The parent's sign of guests goes: this child is none.
    // SAFETY: nobody else is in this process, and nobody was inside when it was forked.
    *unsafe { arena.guests.forked() } = child.guests;
    arena.slot.store(child.slot, SeqCst);
    if let Ok(participant) = arena.control.participant(child.slot) {
        arena.name_process(participant, arena.pid.load(Relaxed));
    }
}

/// The mapping stays as it is, and so does the parent's sign of guests.
fn become_guest(arena: &Arena, parent: u32, cause: &Error) {
    arena.slot.store(NO_SLOT, SeqCst);
    let text = format!(
        "this process could get no place in arena {:016x} when process {parent} forked it: {cause}. Arrays that it was \
         forked with are shared still, but it cannot call ndshare",
        arena.id()
    );
    // A guest's children are guests for the same reason.
    let _ = arena.absence.set(Error::attach(text));
}

/// Why this process has no place in arenas that it was forked with, for each of these.
pub fn left_out() -> Vec<Error> {
    let mut arenas = Vec::new();
    let registry = REGISTRY.lock();
    arenas.extend(registry.arenas.iter().filter_map(|(_, arena)| arena.upgrade()));
    drop(registry);
    // Only now: the last reference to an arena takes the registry's lock.
    arenas.iter().filter_map(|arena| arena.absence()).collect()
}
