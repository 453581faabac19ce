//! Pages of a mapped file that somebody cuts off meanwhile: who looks at them gets zeros, not a SIGBUS.
//!
//! A file with a path has no seal. While a range is guarded, a handler puts an empty page of this process's own where one is
//! gone, and the look goes on; whoever looked asks for the file's length afterwards. Any other SIGBUS goes to whoever had the
//! signal before.

use super::page::PAGE_BYTES;
use crate::error::{Error, Kind, Result};
use crate::prim::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::OnceLock;

const PLACES: usize = 64;

/// One guarded range; free while `start` is 0, and without effect while `end` is.
struct Place {
    start: AtomicU64,
    end: AtomicU64,
    /// Grows whenever a guard comes or goes, while `end` is 0.
    turn: AtomicU64,
}

impl Place {
    const fn new() -> Self {
        Self { start: AtomicU64::new(0), end: AtomicU64::new(0), turn: AtomicU64::new(0) }
    }

    /// Makes the range this place's, if it has none.
    fn take(&self, start: u64, len_bytes: u64) -> bool {
        let is_taken = self.start.compare_exchange(0, start, Acquire, Relaxed).is_ok();
        if is_taken {
            self.turn.fetch_add(1, AcqRel);
            self.end.store(start + len_bytes, Release);
        }
        is_taken
    }

    fn leave(&self) {
        self.end.store(0, Release);
        self.turn.fetch_add(1, AcqRel);
        self.start.store(0, Release);
    }

    fn holds(&self, address: u64) -> bool {
        let turn = self.turn.load(Acquire);
        let (start, end) = (self.start.load(Acquire), self.end.load(Acquire));
        // In another turn the two may be of different guards, and no range.
        (start..end).contains(&address) && self.turn.load(Relaxed) == turn
    }
}

static PLACES_OF_GUARDS: [Place; PLACES] = [const { Place::new() }; PLACES];
/// Who had the signal before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Guards the addresses of a mapping until it is dropped, which is before the mapping is.
pub struct Guard(&'static Place);

impl Guard {
    /// Guards `len_bytes` from `start` on, which are of a private mapping.
    ///
    /// # Errors
    /// `Misuse` when too many are guarded already; `Os` when the kernel refuses the handler.
    pub fn new(start: u64, len_bytes: u64) -> Result<Self> {
        listen()?;
        let place = PLACES_OF_GUARDS.iter().find(|place| place.take(start, len_bytes));
        let too_many = || {
            Error::new(Kind::Misuse, format!("expected at most {PLACES} looks at files with a path at once: end some"))
        };
        place.map(Self).ok_or_else(too_many)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.leave();
    }
}

fn listen() -> Result<()> {
    BEFORE.get_or_init(|| {
        // SAFETY: all zeros is a valid `sigaction`: the default.
        let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: a live struct of this frame; nothing is changed.
        unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) };
        before
    });
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
    // SAFETY: as above.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    ours.sa_sigaction = handler as libc::sighandler_t;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler is a function of this library that makes only system calls and looks at atomics.
    match unsafe { libc::sigaction(libc::SIGBUS, &ours, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(Error::last_os("listening to SIGBUS")),
    }
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes what it knows of the signal; an address is part of that only where the code says so.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr() as u64) };
    if code == libc::BUS_ADRERR && is_guarded(address) && fill(address) {
        return;
    }
    // Not ours: whoever had the signal before gets it, by the same access once more, or anew if somebody sent it.
    if let Some(before) = BEFORE.get() {
        // SAFETY: what `listen` was told by the kernel.
        unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
    }
    if code <= 0 {
        // SAFETY: a number only.
        unsafe { libc::raise(signal) };
    }
}

fn is_guarded(address: u64) -> bool {
    PLACES_OF_GUARDS.iter().any(|place| place.holds(address))
}

/// Puts an empty page where one is gone.
fn fill(address: u64) -> bool {
    let page = std::ptr::without_provenance_mut((address & !(PAGE_BYTES - 1)) as usize);
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
    // SAFETY: the page lies in a guarded range, a private mapping that lives and of which nobody else knows, and whose page
    // is gone; what stands there afterwards is zeros, and its readers take any bytes.
    unsafe { libc::mmap(page, PAGE_BYTES as usize, protection, flags, -1, 0) != libc::MAP_FAILED }
}

#[cfg(test)]
mod tests {
    use super::super::file::MemFile;
    use super::super::memory::Mapping;
    use super::super::path::NewFile;
    use super::*;

    /// A fault elsewhere, at the moment at which a guard goes, was answered by zeros.
    #[test]
    fn a_place_that_changes_hands_guards_no_other_address() {
        let place = Place::new();
        std::thread::scope(|scope| {
            let hands = scope.spawn(|| {
                for round in 0..500_000 {
                    assert!(place.take((3 + round % 2 * 4) * PAGE_BYTES, PAGE_BYTES));
                    place.leave();
                }
            });
            // BOUND: the rounds of the other thread.
            while !hands.is_finished() {
                assert!(!place.holds(PAGE_BYTES) && !place.holds(5 * PAGE_BYTES));
            }
        });
        assert!(place.take(PAGE_BYTES, PAGE_BYTES) && !place.take(PAGE_BYTES, PAGE_BYTES));
        assert!(place.holds(2 * PAGE_BYTES - 1) && !place.holds(2 * PAGE_BYTES) && !place.holds(PAGE_BYTES - 1));
    }

    #[test]
    fn what_is_cut_off_reads_as_zeros_and_the_rest_as_it_is() {
        let path = std::env::temp_dir().join(format!("ndshare-test-{:016x}", super::super::random_u64()));
        let new = NewFile::on_the_way_to(&path).unwrap();
        new.file().set_len(4 * PAGE_BYTES).unwrap();
        crate::os::path::write_id(new.file(), 7).unwrap();
        let mapping = Mapping::private(&MemFile::open_at(&path, new.file(), "test").unwrap()).unwrap();
        let guard = Guard::new(mapping.base().addr().get() as u64, mapping.len_bytes()).unwrap();
        new.file().set_len(PAGE_BYTES).unwrap();
        // SAFETY: addresses of the mapping, which lives; nobody else has it.
        let read = |at: usize| unsafe { mapping.base().add(at).read_volatile() };
        assert_eq!([read(8), read(9000), read(3 * PAGE_BYTES as usize)], [7, 0, 0]);
        drop(guard);
        assert!(!is_guarded(mapping.base().addr().get() as u64));
    }
}
