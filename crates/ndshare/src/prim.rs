//! The only door to atomics, and the private lock.
//!
//! Under `cfg(loom)` the same names are loom's, so that a model runs the very functions that ship.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU8, AtomicU16};

#[cfg(loom)]
use loom::sync::atomic::AtomicPtr;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
#[cfg(not(loom))]
use std::sync::atomic::AtomicPtr;

/// `SeqCst` accesses have one order, which some protocols rest on. loom knows that only of fences: so in a model this is
/// one, between a write of one's own and a read of the other's.
#[inline]
pub fn in_one_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// What stands for bytes in a model: loom fails it when a read and a write, or two writes, come in no order.
#[cfg(loom)]
#[derive(Debug, Default)]
pub struct Watched(loom::cell::UnsafeCell<()>);

// SAFETY: there are no bytes in it. loom writes down who comes, and what came before.
#[cfg(loom)]
unsafe impl Sync for Watched {}

#[cfg(loom)]
impl Watched {
    pub fn read(&self) {
        self.0.with(|_| ());
    }

    pub fn write(&self) {
        self.0.with_mut(|_| ());
    }
}

/// Tells the processor that the line of `word` will be written soon, so that it fetches it for writing at once. Nothing
/// else happens.
#[inline]
pub fn fetch_to_write<T>(word: &T) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    // SAFETY: a hint: it reads and writes nothing that a program could see. Processors without it do nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) std::ptr::from_ref(word), options(nostack, preserves_flags));
    }
    let _ = word;
}

/// A number as a peer may have written it: it says nothing until it is checked.
///
/// Read once, checked once, used as often as one likes. There is no way to the bare number that does not name what it
/// may be, so nothing that a peer scribbled becomes an index, a length or a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a number is read from shared memory once: keep it"]
pub struct Unchecked(u64);

impl Unchecked {
    /// A number that came out of a word together with others.
    #[inline]
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, if it is an index of something that has `len` places.
    #[inline]
    pub fn index(self, len: usize) -> Option<usize> {
        usize::try_from(self.0).ok().filter(|&index| index < len)
    }

    /// The number, if it is `most` or less.
    #[inline]
    pub fn at_most(self, most: u64) -> Option<u64> {
        (self.0 <= most).then_some(self.0)
    }

    /// The number, or `most` where it is more.
    #[inline]
    pub fn capped(self, most: u64) -> u64 {
        self.0.min(most)
    }

    /// Whether it is `number`.
    #[inline]
    pub fn is(self, number: u64) -> bool {
        self.0 == number
    }
}

/// Reads a shared word that becomes an index, a length or a bound.
#[inline]
pub fn read(word: &AtomicU64, ordering: Ordering) -> Unchecked {
    Unchecked(word.load(ordering))
}

/// As [`read`], of 32 bits.
#[inline]
pub fn read_u32(word: &AtomicU32, ordering: Ordering) -> Unchecked {
    Unchecked(word.load(ordering).into())
}

/// Makes a word say `value` that nobody else writes meanwhile. One that says so already is left alone: others may have it in
/// their caches.
#[inline]
pub fn set(word: &AtomicU64, value: u64) {
    // RAW: only compared.
    if word.load(Ordering::Relaxed) != value {
        word.store(value, Ordering::Relaxed);
    }
}

/// Stores bytes into words, the last one filled up with zeros.
#[inline]
pub fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        word.store(word_of(chunk), Ordering::Relaxed);
    }
}

/// Loads `len` bytes from words; fewer if there are no more.
#[inline]
pub fn load_bytes(words: &[AtomicU64], len: usize) -> Vec<u8> {
    // First of all: a length from shared memory may be anything.
    let len = len.min(words.len().saturating_mul(8));
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    for word in words.iter().take(len.div_ceil(8)) {
        bytes.extend(word.load(Ordering::Relaxed).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Whether words hold these bytes, as [`store_bytes`] puts them.
#[inline]
pub fn equal_bytes(words: &[AtomicU64], bytes: &[u8]) -> bool {
    words.len() * 8 >= bytes.len()
        && words.iter().zip(bytes.chunks(8)).all(|(word, chunk)| word.load(Ordering::Relaxed) == word_of(chunk))
}

/// Up to eight bytes as a word, filled up with zeros.
#[inline]
fn word_of(chunk: &[u8]) -> u64 {
    chunk.try_into().map(u64::from_le_bytes).unwrap_or_else(|_| {
        let mut buffer = [0; 8];
        buffer[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(buffer)
    })
}

/// A place that is filled once, by whoever comes first. A look costs one load; nobody ever waits, so a fork at any
/// instant leaves the child one that works, which a `OnceLock` cannot promise.
pub struct SetOnce<T> {
    filled: AtomicPtr<T>,
    // It owns a `T`: it is `Send` and `Sync` only where that is.
    owned: PhantomData<T>,
}

impl<T: Send + Sync> SetOnce<T> {
    /// An empty place.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { filled: AtomicPtr::new(std::ptr::null_mut()), owned: PhantomData }
    }

    /// An empty place.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { filled: AtomicPtr::new(std::ptr::null_mut()), owned: PhantomData }
    }

    /// What is there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire pairs with the Release in `set`: who sees the address sees the value.
        let filled = self.filled.load(Ordering::Acquire);
        // SAFETY: null, or the box that `set` gave up, which is freed only with the place itself.
        unsafe { filled.as_ref() }
    }

    /// Puts `value` there unless another was faster; what is there now.
    pub fn set(&self, value: T) -> &T {
        let mine = Box::into_raw(Box::new(value));
        match self.filled.compare_exchange(std::ptr::null_mut(), mine, Ordering::Release, Ordering::Acquire) {
            // SAFETY: the box was just given up to the place, and is freed only with it.
            Ok(_) => unsafe { &*mine },
            Err(theirs) => {
                // SAFETY: nobody else has seen this address, and it came out of a box.
                drop(unsafe { Box::from_raw(mine) });
                // SAFETY: not null, so it is the box that another `set` gave up, freed only with the place.
                unsafe { &*theirs }
            }
        }
    }

    /// Puts `value` there. What was there before stays in memory for ever: somebody may be looking at it.
    pub fn replace(&self, value: T) -> &T {
        let mine = Box::into_raw(Box::new(value));
        self.filled.store(mine, Ordering::Release);
        // SAFETY: the box was just given up to the place, and is freed only with it, or never.
        unsafe { &*mine }
    }
}

impl<T: Send + Sync> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        let filled = self.filled.load(Ordering::Acquire);
        if !filled.is_null() {
            // SAFETY: the box that `set` gave up; `&mut self` says that no reference to it is left.
            drop(unsafe { Box::from_raw(filled) });
        }
    }
}

impl<T> fmt::Debug for SetOnce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetOnce")
    }
}

/// A lock between the threads of one process, for sections of a few dozen nanoseconds.
///
/// No system call, no wait for a shared lock and no Python happens under it, so its holder is soon out again;
/// a waiter spins, then yields. It can be held across `fork` and opened in the child, which a lock of the
/// standard library cannot promise.
pub struct SpinLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one thread at a time, so only `T: Send` is needed.
unsafe impl<T: Send> Send for SpinLock<T> {}
// SAFETY: as above; `&SpinLock` gives access only under the lock.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// An open lock around `value`.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// An open lock around `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Waits for the lock and takes it.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        self.acquire();
        SpinGuard { lock: self }
    }

    /// Takes the lock if it is open; a child never opens one that another thread held during the fork.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        let taken = self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok().then(|| SpinGuard { lock: self })
    }

    #[inline]
    fn acquire(&self) {
        // Acquire here pairs with the Release in `release`: the next holder sees what the last one wrote.
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.wait();
        }
    }

    #[cold]
    fn wait(&self) {
        for _ in 0..100 {
            if !self.locked.load(Ordering::Relaxed) {
                return;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }

    /// Takes the lock without a guard: a fork handler opens it again, in parent and child.
    pub(crate) fn lock_across_fork(&self) {
        self.acquire();
    }

    /// Opens a lock that [`Self::lock_across_fork`] took.
    pub(crate) fn unlock_after_fork(&self) {
        self.locked.store(false, Ordering::Release);
    }

    /// The value, while `lock_across_fork` holds the lock for the calling thread.
    ///
    /// # Safety
    /// The calling thread must hold the lock by `lock_across_fork`, and use no second reference beside this.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn forked(&self) -> &mut T {
        // SAFETY: the caller holds the lock, so no other thread has a reference to the value.
        unsafe { &mut *self.value.get() }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.try_lock() {
            Some(value) => f.debug_tuple("SpinLock").field(&*value).finish(),
            None => f.write_str("SpinLock(<locked>)"),
        }
    }
}

/// Access to the value of a [`SpinLock`]; dropping it opens the lock.
pub struct SpinGuard<'a, T> {
    lock: &'a SpinLock<T>,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while its lock is held, so nobody writes the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists only while its lock is held, and `&mut self` is the one way in.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_lock_excludes() {
        let lock = SpinLock::new(0_u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(*lock.lock(), 40_000);
    }

    #[test]
    fn a_place_is_filled_by_the_first_and_dropped_once() {
        let dropped = std::sync::Arc::new(());
        let place = SetOnce::new();
        assert!(place.get().is_none());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| place.set(dropped.clone()));
            }
        });
        assert!(place.get().is_some());
        assert_eq!(std::sync::Arc::strong_count(&dropped), 2, "one is there, the others are gone");
        drop(place);
        assert_eq!(std::sync::Arc::strong_count(&dropped), 1);
    }

    #[test]
    fn who_only_tries_gets_an_open_lock() {
        let lock = SpinLock::new(7);
        let held = lock.try_lock().unwrap();
        assert!(lock.try_lock().is_none());
        drop(held);
        assert_eq!(lock.try_lock().map(|value| *value), Some(7));
    }

    #[test]
    fn a_number_of_a_peer_is_checked_before_it_is_one() {
        let word = AtomicU64::new(7);
        let number = read(&word, Ordering::Relaxed);
        assert_eq!((number.index(8), number.index(7)), (Some(7), None));
        assert_eq!((number.at_most(7), number.at_most(6), number.capped(3)), (Some(7), None, 3));
        assert!(number.is(7) && Unchecked::new(u64::MAX).index(usize::MAX).is_none());
    }

    #[test]
    fn bytes_survive_words() {
        let words: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(u64::MAX)).collect();
        let bytes: Vec<u8> = (1..=29).collect();
        store_bytes(&words, &bytes);
        assert_eq!(load_bytes(&words, 29), bytes);
        assert!(equal_bytes(&words, &bytes) && !equal_bytes(&words, &[1; 33]));
        assert_eq!(load_bytes(&words, 100).len(), 32);
        assert_eq!(load_bytes(&words, usize::MAX).len(), 32);
    }
}
