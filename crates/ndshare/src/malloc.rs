//! An arena as the allocator of code that keeps addresses and nothing else, such as a C library.
//!
//! The hold of a block is given away as the block's address, and taken back when the address comes to be freed.
//!
//! Such code expects memory at once, or none. So an allocation waits only shortly for an arena that another process is
//! busy with; while that one stays busy (it may be stopped) the next ones do not wait at all. Whoever gets none has
//! other memory to fall back on, and both are counted. Nothing here panics: the code around would not stand it.

use crate::arena::{Arena, Deadline, Hold, Judge};
use crate::error::{Kind, Result};
use crate::os::PAGE_BYTES;
use crate::prim::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// Blocks start at multiples of this, as arrays do.
const ALIGN: usize = 64;
const PAGE: usize = PAGE_BYTES as usize;
/// How many blocks without whole pages are put aside before there is no memory.
const UNFIT_BLOCKS: usize = 8;
/// How long an allocation waits for an arena that another process is busy with.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// What was asked for so far; several allocators may count together.
#[derive(Debug, Default)]
pub struct Counts {
    blocks: AtomicU64,
    bytes: AtomicU64,
    fallbacks: AtomicU64,
    fallback_bytes: AtomicU64,
}

impl Counts {
    /// How many blocks were given, and the bytes that were asked for.
    pub fn given(&self) -> (u64, u64) {
        // RAW: counts, which are told.
        (self.blocks.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// How often there was none to be had, and the bytes that were asked for.
    pub fn refused(&self) -> (u64, u64) {
        // RAW: as above.
        (self.fallbacks.load(Relaxed), self.fallback_bytes.load(Relaxed))
    }
}

/// An arena that gives addresses of memory, and takes them back.
#[derive(Debug)]
pub struct Malloc {
    arena: Arc<Arena>,
    counts: Arc<Counts>,
    /// Whether the last allocation found the arena busy until its deadline.
    is_busy: AtomicBool,
}

/// Whose memory an address is that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<T> {
    /// This arena's, and this was done with it.
    Ours(T),
    /// Another allocator's; nothing was done.
    Elsewhere,
    /// The arena's, but this process may not touch it: a child of a raw `clone`. Nothing was done.
    Lost,
}

impl Malloc {
    /// Memory of `arena`, counted in `counts`.
    pub fn new(arena: Arc<Arena>, counts: Arc<Counts>) -> Self {
        Self { arena, counts, is_busy: AtomicBool::new(false) }
    }

    /// The address of a new block of at least `len_bytes`; none when it can't be had soon.
    pub fn alloc(&self, len_bytes: usize) -> Option<NonNull<u8>> {
        self.give(len_bytes, || self.arena.alloc(len_bytes, ALIGN, false, &self.deadline()))
    }

    /// The same, of zeros. Before each fork `judge` says whether the block holds pointers into this process by then; such
    /// a block is copied for parent and child, as ordinary memory is. See [`Hold::watch`].
    pub fn alloc_zeros(&self, len_bytes: usize, judge: Judge) -> Option<NonNull<u8>> {
        self.give(len_bytes, || self.watched_zeros(len_bytes, judge))
    }

    /// Makes the block at `address` one of `len_bytes`, whose address this returns. It moves when it grows, and when more
    /// than half of it would be left over: into the arena if that is `worthwhile` and `judge` says that the block holds no
    /// pointers into this process, or else to what `elsewhere` gives. Null if there is none; then the block stays as it is.
    ///
    /// # Safety
    /// As [`Self::free`]; and `elsewhere` returns memory of the length that it is asked for, or null.
    pub unsafe fn resize(
        &self,
        address: *mut u8,
        len_bytes: usize,
        worthwhile: bool,
        judge: Judge,
        elsewhere: impl FnOnce(usize) -> *mut u8,
    ) -> Whose<*mut u8> {
        // SAFETY: the caller's.
        let hold = match unsafe { self.find(address) } {
            Whose::Ours(hold) => hold,
            Whose::Elsewhere => return Whose::Elsewhere,
            Whose::Lost => return Whose::Lost,
        };
        let had = hold.len_bytes();
        if (had / 2..=had).contains(&len_bytes) {
            return Whose::Ours(hold.into_address());
        }
        // A new block is not watched: with pointers in it a forked child would write into its parent's objects.
        let is_shareable = worthwhile && !judge(hold.as_ptr().addr(), had);
        let new = if is_shareable { self.alloc(len_bytes) } else { None };
        let new = new.map_or_else(|| elsewhere(len_bytes), NonNull::as_ptr);
        if new.is_null() {
            // The old block stays the caller's, and is large enough if it was to shrink.
            let same = hold.into_address();
            return Whose::Ours(if len_bytes <= had { same } else { new });
        }
        // SAFETY: both have so many bytes, and they are different memory: the old one is still held.
        unsafe { hold.as_ptr().copy_to_nonoverlapping(new, had.min(len_bytes)) };
        give_back(hold);
        Whose::Ours(new)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// If a block of this arena begins at `address`, an allocator of the arena gave that address away, and it did not come
    /// back since, in this process or, before a fork, in the parent. Nobody uses the bytes any more.
    pub unsafe fn free(&self, address: *mut u8) -> Whose<()> {
        // SAFETY: the caller's.
        match unsafe { self.find(address) } {
            Whose::Ours(hold) => {
                give_back(hold);
                Whose::Ours(())
            }
            Whose::Elsewhere => Whose::Elsewhere,
            Whose::Lost => Whose::Lost,
        }
    }

    fn give(&self, len_bytes: usize, alloc: impl FnOnce() -> Result<Hold>) -> Option<NonNull<u8>> {
        let outcome = catch_unwind(AssertUnwindSafe(alloc));
        let is_busy = matches!(&outcome, Ok(Err(error)) if error.kind() == Kind::Timeout);
        self.is_busy.store(is_busy, Relaxed);
        let hold = outcome.ok().and_then(Result::ok);
        let (count, bytes) = match hold {
            Some(_) => (&self.counts.blocks, &self.counts.bytes),
            None => (&self.counts.fallbacks, &self.counts.fallback_bytes),
        };
        count.fetch_add(1, Relaxed);
        bytes.fetch_add(len_bytes as u64, Relaxed);
        hold.and_then(|hold| NonNull::new(hold.into_address()))
    }

    fn watched_zeros(&self, len_bytes: usize, judge: Judge) -> Result<Hold> {
        let whole_pages = len_bytes.checked_next_multiple_of(PAGE).unwrap_or(len_bytes);
        // A warm block may end inside a page, and would be offered again at once: those wait here meanwhile.
        let mut unfit = Vec::with_capacity(UNFIT_BLOCKS);
        loop {
            let hold = self.arena.alloc(whole_pages, PAGE, true, &self.deadline())?;
            match hold.watch(judge) {
                Ok(()) => return Ok(hold),
                Err(error) if unfit.len() == UNFIT_BLOCKS => return Err(error),
                Err(_) => unfit.push(hold),
            }
        }
    }

    fn deadline(&self) -> Deadline<'static> {
        if self.is_busy.load(Relaxed) { Deadline::now() } else { Deadline::new(Some(LONGEST_WAIT), &|| Ok(())) }
    }

    /// # Safety
    /// As [`Self::free`].
    unsafe fn find(&self, address: *mut u8) -> Whose<Hold> {
        if !self.arena.contains(address.addr()) {
            return Whose::Elsewhere;
        }
        // SAFETY: the caller's; all allocators of an arena give holds away as addresses.
        let taken = catch_unwind(AssertUnwindSafe(|| unsafe { self.arena.take_back(address.addr()) }));
        match taken {
            Ok(Some(hold)) => Whose::Ours(hold),
            // An address inside a block: of an allocator that took the block from this one.
            Ok(None) if self.arena.identity().is_ok() => Whose::Elsewhere,
            _ => Whose::Lost,
        }
    }
}

/// Another allocator, by addresses and lengths.
pub trait Other {
    /// Memory for so many bytes; null when there is none. So do the next two.
    fn malloc(&self, len_bytes: usize) -> *mut u8;
    /// Zeros.
    fn calloc(&self, items: usize, item_bytes: usize) -> *mut u8;
    /// What it gave, at another length.
    fn realloc(&self, old: *mut u8, len_bytes: usize) -> *mut u8;
    /// Takes back what it gave.
    fn free(&self, address: *mut u8, len_bytes: usize);
}

/// A [`Malloc`] in the place of another allocator, for as long as it is open: what is large enough is a block, and the rest
/// is the other's. Scopes nest: the other of the inner one is the outer one.
///
/// It serves what it gave also after it was closed. Then, and where an address is not its own, it asks the one outside.
#[derive(Debug)]
pub struct Scope<A> {
    memory: Malloc,
    min_bytes: usize,
    is_open: AtomicBool,
    /// The scope that it is in the place of, if it is in one's.
    outer: Option<A>,
    /// The nearest one outside that is no scope: memory that is not shared.
    ordinary: A,
    /// Whether that may itself lead back to a scope further out.
    is_foreign: bool,
}

thread_local! {
    /// Whether this thread is in a foreign allocator on behalf of a scope: what goes there shall not come back, or it would
    /// not hear of the end of it.
    static PASSING: Cell<bool> = const { Cell::new(false) };
}

impl<A: Other + Copy> Scope<A> {
    /// A scope for pieces of at least `min_bytes` in the place of `ordinary`, which is no scope; it `is_foreign` if it may
    /// lead back to one.
    pub fn new(memory: Malloc, min_bytes: usize, ordinary: A, is_foreign: bool) -> Self {
        Self { memory, min_bytes, is_open: AtomicBool::new(true), outer: None, ordinary, is_foreign }
    }

    /// The same in the place of `beside`, which is the scope `outer`.
    pub fn within(memory: Malloc, min_bytes: usize, beside: A, outer: &Self) -> Self {
        Self { outer: Some(beside), ..Self::new(memory, min_bytes, outer.ordinary, outer.is_foreign) }
    }

    /// Gives no more blocks from now on.
    pub fn close(&self) {
        self.is_open.store(false, Relaxed);
    }

    /// Whether it was not closed.
    pub fn is_open(&self) -> bool {
        // RAW: a word of this process alone.
        self.is_open.load(Relaxed)
    }

    /// Memory for so many bytes; null when there is none.
    #[inline]
    pub fn malloc(&self, len_bytes: usize) -> *mut u8 {
        self.allocate(len_bytes, |memory| memory.alloc(len_bytes), |other| other.malloc(len_bytes))
    }

    /// The same, of zeros, with a `judge` as in [`Malloc::alloc_zeros`].
    #[inline]
    pub fn calloc(&self, items: usize, item_bytes: usize, judge: Judge) -> *mut u8 {
        let alloc = |memory: &Malloc| memory.alloc_zeros(items.checked_mul(item_bytes)?, judge);
        self.allocate(items.saturating_mul(item_bytes), alloc, |other| other.calloc(items, item_bytes))
    }

    /// Memory that changes its size. What was shared stays shared, also after the end, unless `judge` says that it holds
    /// pointers into this process; what was not stays so, because its length is known to its allocator only.
    ///
    /// # Safety
    /// As [`Malloc::resize`], where no `elsewhere` is asked; or `old` is of an allocator outside.
    pub unsafe fn realloc(&self, old: *mut u8, len_bytes: usize, judge: Judge) -> *mut u8 {
        let worthwhile = len_bytes >= self.min_bytes && !PASSING.get();
        let elsewhere = |len_bytes| self.ask_ordinary(|ordinary| ordinary.malloc(len_bytes));
        // SAFETY: the caller's; an allocator gives as much as it is asked for.
        match unsafe { self.memory.resize(old, len_bytes, worthwhile, judge, elsewhere) } {
            Whose::Ours(new) => new,
            Whose::Elsewhere => self.beside().realloc(old, len_bytes),
            Whose::Lost => std::ptr::null_mut(),
        }
    }

    /// Takes memory back.
    ///
    /// # Safety
    /// As [`Malloc::free`], or it is of an allocator outside.
    pub unsafe fn free(&self, address: *mut u8, len_bytes: usize) {
        // SAFETY: the caller's.
        if let Whose::Elsewhere = unsafe { self.memory.free(address) } {
            self.beside().free(address, len_bytes);
        }
    }

    /// A block by `alloc` if the piece is large enough, or what `ask` gets of another allocator.
    #[inline]
    fn allocate(
        &self,
        len_bytes: usize,
        alloc: impl FnOnce(&Malloc) -> Option<NonNull<u8>>,
        ask: impl Fn(&A) -> *mut u8,
    ) -> *mut u8 {
        if len_bytes < self.min_bytes {
            return self.ask_ordinary(ask);
        }
        if !self.is_open() {
            return self.outer.as_ref().map_or_else(|| self.ask_ordinary(&ask), &ask);
        }
        match if PASSING.get() { None } else { alloc(&self.memory) } {
            Some(block) => block.as_ptr(),
            None => self.ask_ordinary(ask),
        }
    }

    /// The allocator that it is in the place of.
    fn beside(&self) -> A {
        self.outer.unwrap_or(self.ordinary)
    }

    #[inline]
    fn ask_ordinary<T>(&self, ask: impl FnOnce(&A) -> T) -> T {
        if !self.is_foreign {
            return ask(&self.ordinary);
        }
        let before = PASSING.replace(true);
        let outcome = ask(&self.ordinary);
        PASSING.set(before);
        outcome
    }
}

fn give_back(hold: Hold) {
    // A panic would be a bug, and must not unwind into the code around.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(hold)));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn malloc() -> Malloc {
        let (arena, _heap) = Arena::create_on_heap(8 << 20).unwrap();
        Malloc::new(arena, Arc::default())
    }

    fn used_bytes(malloc: &Malloc) -> u64 {
        malloc.arena.stats().unwrap().used_bytes
    }

    fn never(_: usize, _: usize) -> bool {
        false
    }

    fn none(_: usize) -> *mut u8 {
        std::ptr::null_mut()
    }

    #[test]
    fn memory_is_an_address_until_it_comes_back() {
        let malloc = malloc();
        let address = malloc.alloc(5000).unwrap().as_ptr();
        assert!(address.addr().is_multiple_of(ALIGN) && used_bytes(&malloc) >= 5000);
        // SAFETY: the block has so many bytes, and nobody else has it; it comes back once.
        unsafe {
            address.write_bytes(7, 5000);
            assert_eq!(malloc.free(address), Whose::Ours(()));
        }
        assert_eq!((used_bytes(&malloc), malloc.counts.given(), malloc.counts.refused()), (0, (1, 5000), (0, 0)));
    }

    #[test]
    fn zeros_are_whole_pages_also_after_blocks_that_end_inside_one() {
        let malloc = malloc();
        for _ in 0..3 {
            let holds: Vec<_> = (0..4).map(|_| malloc.alloc(3 * PAGE + 1024).unwrap().as_ptr()).collect();
            // SAFETY: each block has so many bytes, and comes back once.
            holds.into_iter().for_each(|address| unsafe {
                address.write_bytes(9, 3 * PAGE + 1024);
                malloc.free(address);
            });
            let address = malloc.alloc_zeros(2 * PAGE + 1, never).unwrap().as_ptr();
            assert!(address.addr().is_multiple_of(PAGE));
            // SAFETY: as above.
            unsafe {
                assert!((0..2 * PAGE + 1).all(|at| address.add(at).read() == 0));
                malloc.free(address);
            }
        }
    }

    #[test]
    fn a_block_keeps_its_bytes_wherever_it_goes() {
        let malloc = malloc();
        let mut outside = vec![0_u8; 100];
        let room = outside.as_mut_ptr();
        let address = malloc.alloc(4096).unwrap().as_ptr();
        // SAFETY: each block has the bytes that it was asked for, and its address comes back once; `outside` has 100.
        unsafe {
            (0..4096).for_each(|at| address.add(at).write(at as u8));
            assert_eq!(malloc.resize(address, 3000, true, never, none), Whose::Ours(address), "most of it stays");
            let Whose::Ours(larger) = malloc.resize(address, 20_000, true, never, none) else { panic!("it is ours") };
            assert!(malloc.arena.contains(larger.addr()) && (0..4096).all(|at| larger.add(at).read() == at as u8));
            let Whose::Ours(small) =
                malloc.resize(larger, 100, false, never, |len| if len == 100 { room } else { none(len) })
            else {
                panic!("it is ours")
            };
            assert_eq!((small, used_bytes(&malloc)), (room, 0));
        }
        assert!(outside.iter().enumerate().all(|(at, &byte)| byte == at as u8));
    }

    /// It went to a block that nobody watched: parent and forked child had the pointers in common.
    #[test]
    fn what_holds_pointers_moves_out_of_the_arena() {
        let (malloc, mut outside) = (malloc(), vec![0_u8; 20_000]);
        let room = outside.as_mut_ptr();
        let address = malloc.alloc_zeros(PAGE, |_, _| true).unwrap().as_ptr();
        // SAFETY: the block has so many bytes, and its address comes back once; `outside` has those that are asked for.
        unsafe {
            address.write_bytes(7, PAGE);
            let moved = malloc.resize(address, 20_000, true, |at, len| at > 0 && len == PAGE, |_| room);
            assert_eq!((moved, used_bytes(&malloc)), (Whose::Ours(room), 0));
        }
        assert!(outside[..PAGE].iter().all(|&byte| byte == 7));
    }

    #[test]
    fn without_room_a_block_stays_what_it_is() {
        let malloc = malloc();
        let address = malloc.alloc(4096).unwrap().as_ptr();
        // SAFETY: the address comes back once, at the end.
        unsafe {
            assert_eq!(malloc.resize(address, 1 << 30, true, never, none), Whose::Ours(std::ptr::null_mut()));
            assert_eq!(
                malloc.resize(address, 10, false, never, none),
                Whose::Ours(address),
                "there is room for fewer bytes"
            );
            assert_eq!(malloc.free(address), Whose::Ours(()));
        }
        assert_eq!((malloc.counts.refused(), used_bytes(&malloc)), ((1, 1 << 30), 0));
    }

    /// An allocator that gives null, and notes what it was asked.
    #[derive(Clone, Copy)]
    struct Asked<'a>(&'a std::cell::RefCell<Vec<&'static str>>, &'static str, Option<&'a Scope<Asked<'a>>>);

    impl Asked<'_> {
        fn note(&self) -> *mut u8 {
            self.0.borrow_mut().push(self.1);
            self.2.map_or(std::ptr::null_mut(), |inner| inner.malloc(8192))
        }
    }

    impl Other for Asked<'_> {
        fn malloc(&self, _: usize) -> *mut u8 {
            self.note()
        }
        fn calloc(&self, _: usize, _: usize) -> *mut u8 {
            self.note()
        }
        fn realloc(&self, _: *mut u8, _: usize) -> *mut u8 {
            self.note()
        }
        fn free(&self, _: *mut u8, _: usize) {
            self.note();
        }
    }

    #[test]
    fn a_scope_gives_blocks_while_it_is_open_and_serves_them_afterwards() {
        let (arena, _heap) = Arena::create_on_heap(8 << 20).unwrap();
        let memory = || Malloc::new(arena.clone(), Arc::default());
        let heard = std::cell::RefCell::new(Vec::new());
        let outer = Scope::new(memory(), 4096, Asked(&heard, "plain", None), false);
        let inner = Scope::within(memory(), 8192, Asked(&heard, "outer", None), &outer);
        assert!(inner.malloc(100).is_null() && inner.calloc(2, usize::MAX, never).is_null());
        assert_eq!(heard.take(), ["plain", "plain"], "too small, and too large, for blocks: outside of all scopes");
        let block = inner.malloc(8192);
        inner.close();
        assert!(arena.contains(block.addr()) && inner.malloc(8192).is_null());
        // SAFETY: the block is the scope's, and comes back once; the other address is no block.
        unsafe {
            assert_eq!(inner.realloc(block, 8000, never), block, "what was shared stays shared");
            inner.free(block, 8000);
            inner.free(std::ptr::null_mut(), 1);
        }
        assert_eq!((heard.take(), arena.stats().unwrap().used_bytes), (vec!["outer", "outer"], 0));
    }

    /// Memory of a foreign allocator that asks back would have two owners.
    #[test]
    fn what_goes_to_a_foreign_allocator_does_not_come_back() {
        let (arena, _heap) = Arena::create_on_heap(8 << 20).unwrap();
        let memory = || Malloc::new(arena.clone(), Arc::default());
        let heard = std::cell::RefCell::new(Vec::new());
        let outer = Scope::new(memory(), 4096, Asked(&heard, "plain", None), false);
        let inner = Scope::new(memory(), 4096, Asked(&heard, "foreign", Some(&outer)), true);
        assert!(inner.malloc(100).is_null(), "no block, though the outer scope would have one for 8192 bytes");
        assert_eq!(heard.take(), ["foreign", "plain"]);
        inner.close();
        assert!(inner.malloc(8192).is_null(), "nor when the inner one is closed");
        assert_eq!(heard.take(), ["foreign", "plain"]);
    }

    #[test]
    fn addresses_of_others_are_not_touched() {
        let malloc = malloc();
        let mut byte = 0_u8;
        let block = malloc.alloc(4096).unwrap().as_ptr();
        // SAFETY: no block begins at the first two; the last comes back once.
        unsafe {
            assert_eq!(malloc.free(&raw mut byte), Whose::Elsewhere);
            assert_eq!(malloc.resize(block.add(64), 10, true, never, none), Whose::Elsewhere, "a place inside a block");
            assert_eq!(malloc.free(block), Whose::Ours(()));
        }
    }
}
