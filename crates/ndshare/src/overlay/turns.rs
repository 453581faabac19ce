//! Whose turn it is: which use goes on, who is inside, and who waits.
//!
//! Whoever is inside a use holds that use's token, a small block of its own. So "somebody is inside" is the same as
//! "the token is alive", and a killed user leaves as any holder does: by the sweep. A use is entered under the lock
//! of the head, another block, which names the token and remembers since when each use is being waited for.
//!
//! ```text
//! head, in words of 64 bits
//! 0..3       what it is, the bytes under all uses, length of the description: see `crate::array`
//! 3 + 2 i    use i is waited for since (monotonic ns); 0: it is not
//! 4 + 2 i    the waiters said so last at (ns): older than some naps, they are gone
//! 123        token of the use that goes on {index + 1: 32, generation: 32}; 0 or stale: none does
//! 124        its use
//! 125        event: counts exits; the low half is slept on
//! 128..      the description: the uses and their fields
//! ```

use crate::arena::{self, AnyBlock, Arena, BlockId, Deadline, Hold};
use crate::array::OWN_WORDS_AT;
use crate::error::{Error, Kind, Result};
use crate::lock::{self, Death};
use crate::os::kill::{Point, point};
use crate::os::monotonic;
use crate::prim::AtomicU64;
use crate::prim::Ordering::{Acquire, Relaxed, Release};
use std::sync::Arc;

/// The most uses that one overlay can have.
pub const MAX_USES: usize = 60;
/// The length of a head without its description, in bytes.
pub(super) const HEAD_BYTES: usize = 1024;

const WAITING: usize = OWN_WORDS_AT;
const TOKEN: usize = WAITING + 2 * MAX_USES;
const USE: usize = TOKEN + 1;
const EVENT: usize = TOKEN + 2;
const _: () = assert!(EVENT * 8 < HEAD_BYTES);
/// A waiter says that it waits at each nap; one that did not for so long is gone.
const FRESH_NS: u64 = 100_000_000;

/// The head of an overlay, as one process has it: whose turn it is.
#[derive(Debug, Clone)]
pub struct Turns {
    head: Hold,
}

/// Being inside a use. Dropping it leaves.
#[derive(Debug)]
pub struct Inside {
    token: Option<Hold>,
    head: Hold,
    first: bool,
}

/// What a look at the head says.
enum Look {
    Free,
    Shared(Hold),
    Busy { event: u32 },
}

/// The number of the use that goes on, told from outside; none when nobody is inside.
pub(super) fn going_on<B: AnyBlock>(look: &arena::Look, head: &B) -> Option<u64> {
    let [token, number] = [TOKEN, USE].map(|index| head.words().get(index));
    // RAW: a name, which is looked up.
    let token = BlockId::from_word(token?.load(Acquire)).filter(|&token| look.is_live(token))?;
    // RAW: whoever asks checks it.
    let number = number?.load(Acquire);
    // Read last: a use that has ended meanwhile says nothing.
    look.is_live(token).then_some(number)
}

impl Turns {
    /// Over the block of a head; a new one's is zeroed.
    pub fn new(head: Hold) -> Self {
        Self { head }
    }

    /// The block.
    pub fn head(&self) -> &Hold {
        &self.head
    }

    /// Waits until `wanted` is the use that goes on, and enters it.
    ///
    /// # Errors
    /// `InvalidValue` beyond [`MAX_USES`]; `ArenaFull` when there is no room for a token; `Timeout` at `deadline`.
    pub fn enter(&self, wanted: usize, deadline: &Deadline) -> Result<Inside> {
        if wanted >= MAX_USES {
            return Err(Error::value(format!("expected a use below {MAX_USES}, got {wanted}")));
        }
        // Made beforehand: nothing is allocated under the head's lock.
        let token = self.arena().alloc_words(1, 64, false, deadline)?;
        // BOUND: the caller's deadline, which is looked at in each round.
        loop {
            lock::acquire(&self.head, Death::Recover, deadline)?;
            let look = self.look(wanted, &token);
            let begun = if let Ok(Look::Free) = look { self.begin(wanted, &token) } else { Ok(()) };
            lock::release(&self.head)?;
            begun?;
            match look? {
                Look::Free => return Ok(self.inside(token, true)),
                Look::Shared(shared) => return Ok(self.inside(shared, false)),
                Look::Busy { event } => {
                    deadline.go_on("the overlay, in another use,").map_err(|error| self.name_those_inside(error))?;
                    self.head.nap_on(EVENT, event, deadline)?;
                }
            }
        }
    }

    /// The error of a wait that has ended, with the processes that it was for.
    fn name_those_inside(&self, error: Error) -> Error {
        if error.kind() != Kind::Timeout {
            return error;
        }
        // RAW: a name, which is looked up.
        let token = self.head.word(TOKEN).ok().and_then(|word| BlockId::from_word(word.load(Acquire)));
        let inside = token.map_or_else(Vec::new, |token| self.arena().glimpse_holders(token));
        if inside.is_empty() {
            return error;
        }
        let names: Vec<String> = inside.iter().map(ToString::to_string).collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        let text = format!("{error}. Inside {verb} {}", names.join("; "));
        error.saying(text).waiting_on(inside)
    }

    fn arena(&self) -> &Arc<Arena> {
        self.head.arena()
    }

    fn inside(&self, token: Hold, first: bool) -> Inside {
        Inside { token: Some(token), head: self.head.clone(), first }
    }

    /// Looks at the head under its lock, and notes there that `wanted` is being waited for if it is.
    fn look(&self, wanted: usize, mine: &Hold) -> Result<Look> {
        // RAW: only compared with what it is later.
        let (now, event) = (monotonic().as_nanos() as u64, self.head.word(EVENT)?.load(Acquire) as u32);
        let others_first = self.waits_longer(wanted, now)?;
        let Some(going_on) = self.going_on(mine)? else {
            if !others_first {
                return Ok(Look::Free);
            }
            self.note_wait(wanted, now)?;
            return Ok(Look::Busy { event });
        };
        let same = self.head.word(USE)?.load(Relaxed) == wanted as u64;
        if same && !others_first {
            self.head.word(WAITING + 2 * wanted)?.store(0, Relaxed);
            point(Point::OverlayWaited);
            return Ok(Look::Shared(going_on));
        }
        drop(going_on);
        self.note_wait(wanted, now)?;
        Ok(Look::Busy { event })
    }

    /// A hold on the token of the use that goes on; none when nobody alive is inside. It is as large as `mine`.
    fn going_on(&self, mine: &Hold) -> Result<Option<Hold>> {
        // RAW: a name, which is looked up.
        let bits = self.head.word(TOKEN)?.load(Acquire);
        let Some(token) = BlockId::from_word(bits) else { return Ok(None) };
        // Sweeps the dead; what they alone kept is gone then, and the take fails.
        let _ = self.arena().is_kept_by_others(token)?;
        match self.arena().take(token).ok() {
            // Any other block may live for ever, and all uses would wait for it.
            Some(hold) if hold.block() == self.head.block() || hold.len_bytes() != mine.len_bytes() => {
                Err(Error::written_over(
                    "the overlay's head",
                    "expected the overlay to name the token of a use, but its head was written over: make a new overlay",
                ))
            }
            found => Ok(found),
        }
    }

    fn begin(&self, wanted: usize, token: &Hold) -> Result<()> {
        self.head.word(WAITING + 2 * wanted)?.store(0, Relaxed);
        self.head.word(USE)?.store(wanted as u64, Relaxed);
        // The one store that begins the use: a death before it leaves the old token, which is stale.
        point(Point::OverlayBegun);
        self.head.word(TOKEN)?.store(token.block().to_word(), Release);
        point(Point::OverlayBegun);
        Ok(())
    }

    fn note_wait(&self, wanted: usize, now: u64) -> Result<()> {
        let (since, said) = (self.head.word(WAITING + 2 * wanted)?, self.head.word(WAITING + 2 * wanted + 1)?);
        let gone = !is_fresh(said, now);
        if since.load(Relaxed) == 0 || gone {
            since.store(now, Relaxed);
        }
        said.store(now, Relaxed);
        point(Point::OverlayWaited);
        Ok(())
    }

    /// Whether another use has been waited for since before `wanted` has.
    fn waits_longer(&self, wanted: usize, now: u64) -> Result<bool> {
        let since = |index: usize| -> Result<Option<u64>> {
            let (since, said) = (self.head.word(WAITING + 2 * index)?, self.head.word(WAITING + 2 * index + 1)?);
            // RAW: only compared with other times.
            let since = since.load(Relaxed);
            Ok((since != 0 && is_fresh(said, now)).then_some(since))
        };
        let mine = since(wanted)?.unwrap_or(now);
        for other in (0..MAX_USES).filter(|&other| other != wanted) {
            if since(other)?.is_some_and(|theirs| theirs < mine) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a waiter said lately that it waits. A time to come was written by nobody who waits.
fn is_fresh(said: &AtomicU64, now: u64) -> bool {
    // RAW: only compared with another time.
    said.load(Relaxed).abs_diff(now) <= FRESH_NS
}

impl Inside {
    /// Whether nobody else was inside when this one entered.
    pub fn is_first(&self) -> bool {
        self.first
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // The token first, then the event: who sees the new event sees the token gone.
        drop(self.token.take());
        if let Ok(event) = self.head.word(EVENT) {
            event.fetch_add(1, Release);
            point(Point::OverlayLeft);
            let _ = self.head.wake(EVENT);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::prim::{AtomicI32, Ordering::SeqCst};
    use std::time::Duration;

    const FOREVER: Deadline<'static> = Deadline::never();

    fn turns(arena: &Arc<Arena>) -> Turns {
        Turns::new(arena.alloc(HEAD_BYTES, 64, true, &FOREVER).unwrap())
    }

    fn seen_by(arena: &Arc<Arena>, turns: &Turns) -> Turns {
        Turns::new(arena.take(turns.head.block()).unwrap())
    }

    fn enter_now(turns: &Turns, wanted: usize) -> Result<Inside> {
        turns.enter(wanted, &Deadline::new(Some(Duration::ZERO), &|| Ok(())))
    }

    #[test]
    fn one_use_is_shared_and_another_waits_for_all_of_it() {
        let (arena, heap) = Arena::create_on_heap(1 << 21).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let mine = turns(&arena);
        let theirs = seen_by(&other, &mine);
        let first = enter_now(&mine, 0).unwrap();
        let second = enter_now(&theirs, 0).unwrap();
        assert!(first.is_first() && !second.is_first());
        let error = enter_now(&theirs, 1).unwrap_err();
        let Error::Timeout(timeout) = &error else { panic!("{error:?}") };
        // Two participants of one process.
        assert_eq!(timeout.on.iter().map(|process| process.pid).collect::<Vec<_>>(), [std::process::id(); 2]);
        drop(first);
        assert_eq!(enter_now(&mine, 1).unwrap_err().kind(), Kind::Timeout);
        drop(second);
        assert!(enter_now(&mine, 1).unwrap().is_first());
    }

    #[test]
    fn a_killed_user_is_gone() {
        let (arena, heap) = Arena::create_on_heap(1 << 21).unwrap();
        let victim = Arena::join_on_heap(&heap).unwrap();
        let mine = turns(&arena);
        let theirs = seen_by(&victim, &mine);
        let inside = enter_now(&theirs, 0).unwrap();
        heap.declare_dead(victim.participant_slot());
        std::mem::forget((inside, theirs, victim));
        assert!(enter_now(&mine, 1).unwrap().is_first());
    }

    #[test]
    fn who_waits_longer_comes_first() {
        let (arena, _heap) = Arena::create_on_heap(1 << 21).unwrap();
        let mine = turns(&arena);
        let inside = enter_now(&mine, 0).unwrap();
        assert!(enter_now(&mine, 1).is_err());
        assert!(enter_now(&mine, 0).is_err(), "use 1 is waited for, so use 0 lets nobody in any more");
        drop(inside);
        assert!(enter_now(&mine, 0).is_err(), "it is the turn of use 1");
        drop(enter_now(&mine, 1).unwrap());
        drop(enter_now(&mine, 0).unwrap());
    }

    #[test]
    fn two_uses_never_go_on_at_once_and_both_get_their_turn() {
        let (arena, heap) = Arena::create_on_heap(1 << 21).unwrap();
        let mine = turns(&arena);
        let inside = [AtomicI32::new(0), AtomicI32::new(0)];
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (inside, mine, heap) = (&inside, &mine, &heap);
                scope.spawn(move || {
                    let theirs = seen_by(&Arena::join_on_heap(heap).unwrap(), mine);
                    for _ in 0..200 {
                        let (this, that) = (worker % 2, 1 - worker % 2);
                        let entered = theirs.enter(this, &FOREVER).unwrap();
                        inside[this].fetch_add(1, SeqCst);
                        assert_eq!(inside[that].load(SeqCst), 0);
                        inside[this].fetch_sub(1, SeqCst);
                        drop(entered);
                    }
                });
            }
        });
    }

    // ---- heads that were scribbled on

    fn briefly() -> Deadline<'static> {
        Deadline::new(Some(Duration::from_micros(200)), &|| Ok(()))
    }

    /// What every victim does. Each call gives a place inside, or an error.
    fn use_it(mine: &Turns, theirs: &Turns) {
        let first = mine.enter(0, &briefly());
        let others = [0, 1, MAX_USES - 1].map(|wanted| theirs.enter(wanted, &briefly()));
        drop(first);
        drop(others);
        drop(mine.enter(1, &briefly()));
        assert_eq!(mine.enter(MAX_USES, &briefly()).unwrap_err().kind(), Kind::InvalidValue);
    }

    /// A word of a head, and what a fault might put there.
    fn scribble(dice: &mut Dice, head: &Hold, blocks: &[u64]) {
        let words = head.words();
        // Those of the use that goes on, and of the first two, say most.
        let most = [TOKEN, USE, EVENT, WAITING, WAITING + 1, WAITING + 2, WAITING + 3];
        let at = [most[dice.below(most.len())], dice.below(words.len())][dice.below(2)];
        let now = monotonic().as_nanos() as u64;
        let wild = [0, 1, u64::MAX, u64::MAX - 1, 1 << 32, now, now.wrapping_add(FRESH_NS / 2), dice.next()];
        let value = dice.below(wild.len() + blocks.len());
        words[at].store(*wild.iter().chain(blocks).nth(value).unwrap(), SeqCst);
    }

    /// Whatever stands in any word of a head, who enters is inside or gets a typed error, and a head that is put right
    /// serves again.
    #[test]
    fn whatever_stands_in_a_head_nobody_panics_hangs_or_reads_outside() {
        let mut dice = Dice(11);
        for _ in 0..12 {
            let (arena, heap) = Arena::create_on_heap(1 << 21).unwrap();
            let mine = turns(&arena);
            let theirs = seen_by(&Arena::join_on_heap(&heap).unwrap(), &mine);
            let array = arena.alloc(5000, 64, true, &FOREVER).unwrap();
            let blocks = [mine.head.block().to_word(), array.block().to_word()];
            for _ in 0..20 {
                let inside = mine.enter(dice.below(3), &briefly());
                scribble(&mut dice, &mine.head, &blocks);
                use_it(&mine, &theirs);
                drop(inside);
                use_it(&theirs, &mine);
            }
            mine.head.words().iter().for_each(|word| word.store(0, SeqCst));
            assert!(enter_now(&mine, 0).unwrap().is_first(), "nothing private was damaged");
            drop((mine, theirs, array));
            assert_eq!(arena.stats().unwrap().used_bytes, 0, "no token stays behind");
        }
    }

    #[test]
    fn a_head_may_be_scribbled_on_while_it_is_used() {
        let (arena, heap) = Arena::create_on_heap(1 << 21).unwrap();
        let mine = turns(&arena);
        let theirs = seen_by(&Arena::join_on_heap(&heap).unwrap(), &mine);
        let blocks = [mine.head.block().to_word()];
        std::thread::scope(|scope| {
            let victim = scope.spawn(|| (0..100).for_each(|_| use_it(&mine, &theirs)));
            let mut dice = Dice(12);
            while !victim.is_finished() {
                scribble(&mut dice, &mine.head, &blocks);
                std::thread::yield_now();
            }
        });
        mine.head.words().iter().for_each(|word| word.store(0, SeqCst));
        assert!(enter_now(&mine, 1).unwrap().is_first());
    }

    /// A head that named any block that lives, its own even, once made every use wait for ever.
    #[test]
    fn a_token_that_is_none_is_an_error() {
        let (arena, _heap) = Arena::create_on_heap(1 << 21).unwrap();
        let mine = turns(&arena);
        let array = arena.alloc(5000, 64, true, &FOREVER).unwrap();
        for block in [mine.head.block(), array.block()] {
            mine.head.words()[TOKEN].store(block.to_word(), SeqCst);
            for wanted in [0, 1] {
                let error = mine.enter(wanted, &FOREVER).unwrap_err();
                assert!(
                    matches!(&error, Error::Poisoned(poisoned) if poisoned.what == "the overlay's head"),
                    "{error:?}"
                );
            }
        }
    }
}
