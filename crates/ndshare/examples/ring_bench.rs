//! Times a hand-over between two processes: through a ring, and by a bare futex on a word of the same shared memory.
//!
//! It starts itself once more as the other side, and prints both process ids, so that whoever started it can give each
//! a processor of its own. Then for each line of its input it prints nanoseconds: `futex` is a round trip in which both
//! sides sleep; `handoff` is half a round trip of frames of a ring in which both sides look without sleeping; `word` is
//! the same of nothing but one word.

use ndshare::arena::{Arena, BlockId, Deadline, Hold, Options};
use ndshare::element::Number;
use ndshare::prim::Ordering::SeqCst;
use ndshare::ring::{Content, Format, Mode, Reader, Ring, RingOptions, Start, Writing};
use ndshare::{Error, Kind, Result};
use std::io::{BufRead, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FOREVER: Deadline<'static> = Deadline::never();
const FRAME_BYTES: u64 = 4 << 20;
/// Short runs, of which the median counts: other programs only disturb some of them.
const RUNS: u32 = 101;
const FUTEX_TRIPS: u32 = 10;
const RING_TRIPS: u32 = 1000;
/// Places in the block of words: one for each direction, in lines of their own.
const THERE: usize = 0;
const BACK: usize = 8;

/// What one side works with: a ring to write to, a reader of the other ring, and the words of the bare futex.
struct Side {
    out: Arc<Ring>,
    into: Reader,
    words: Hold,
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() { measure() } else { Ok(answer(&arguments)?) }
}

fn measure() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arena = Arena::create(&Options { budget_bytes: Some(256 << 20), ..Options::default() })?;
    let make = || {
        let ring =
            Ring::new(&arena, Format::new(&[FRAME_BYTES as usize], Number::U8), RingOptions::slots(4), &FOREVER)?;
        ring.set_spin(Duration::from_secs(1));
        let reader = ring.reader(Mode::Every, Start::Next, &FOREVER)?;
        Ok::<_, Error>((ring, reader))
    };
    let ((there, theirs), (back, mine)) = (make()?, make()?);
    let words = arena.alloc(1024, 64, true, &FOREVER)?;
    let mut child = start_other(&arena, [there.head(), theirs.token(), back.head(), &words], theirs.index())?;
    // `theirs` stays until the other side has opened it; there is no end to that.
    let side = Side { out: there, into: mine, words };
    println!("{} {}", std::process::id(), child.id());
    std::io::stdout().flush()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let Some(input) = child.stdin.as_mut() else { break };
        writeln!(input, "{line}")?;
        println!("{}", side.lead(&line)?);
        std::io::stdout().flush()?;
    }
    drop(child.stdin.take());
    child.wait()?;
    drop(theirs);
    Ok(())
}

fn start_other(arena: &Arc<Arena>, blocks: [&Hold; 4], place: usize) -> std::io::Result<Child> {
    let names = blocks.map(|hold| format!("{}:{}", hold.block().index, hold.block().generation));
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.arg(arena.locator().to_string()).args(names).arg(place.to_string());
    command.stdin(Stdio::piped()).spawn()
}

fn answer(arguments: &[String]) -> Result<()> {
    let [locator, there, token, back, words, place] = arguments else { return Err(misuse()) };
    let arena = Arena::attach(&locator.parse()?)?;
    let take = |name: &str| {
        let (index, generation) = name.split_once(':').ok_or_else(misuse)?;
        let number = |text: &str| text.parse().map_err(|_| misuse());
        arena.take(BlockId { index: number(index)?, generation: number(generation)? })
    };
    let into = Reader::open(Ring::open(take(there)?)?, place.parse().map_err(|_| misuse())?, take(token)?)?;
    into.ring().set_spin(Duration::from_secs(1));
    let side = Side { out: Ring::open(take(back)?)?, into, words: take(words)? };
    for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        side.follow(&line)?;
    }
    Ok(())
}

impl Side {
    /// Plays the first part, and gives the nanoseconds of what was asked for.
    fn lead(&self, what: &str) -> Result<f64> {
        match what {
            "futex" => median(FUTEX_TRIPS, || {
                self.signal(THERE)?;
                self.await_signal(BACK)
            }),
            "word" => {
                let trip = || {
                    self.words.half_word(THERE)?.store(1, SeqCst);
                    self.look_for(BACK)
                };
                Ok(median(RING_TRIPS, trip)? / 2.0)
            }
            "handoff" => {
                let mut next = Some(self.begin()?);
                let trip = || {
                    publish(next.take())?;
                    // The next frame is chosen while the other side has this one.
                    next = Some(self.begin()?);
                    self.into.get(&FOREVER).map(drop)
                };
                Ok(median(RING_TRIPS, trip)? / 2.0)
            }
            _ => Err(misuse()),
        }
    }

    fn follow(&self, what: &str) -> Result<()> {
        match what {
            "futex" => (0..RUNS * FUTEX_TRIPS).try_for_each(|_| {
                self.await_signal(THERE)?;
                self.signal(BACK)
            }),
            "word" => (0..RUNS * RING_TRIPS).try_for_each(|_| {
                self.look_for(THERE)?;
                self.words.half_word(BACK)?.store(1, SeqCst);
                Ok(())
            }),
            "handoff" => {
                let mut next = Some(self.begin()?);
                (0..RUNS * RING_TRIPS).try_for_each(|_| {
                    let frame = self.into.get(&FOREVER)?;
                    publish(next.take())?;
                    drop(frame);
                    next = Some(self.begin()?);
                    Ok(())
                })
            }
            _ => Err(misuse()),
        }
    }

    fn begin(&self) -> Result<Writing> {
        self.out.begin(FRAME_BYTES, &FOREVER)
    }

    fn signal(&self, place: usize) -> Result<()> {
        self.words.half_word(place)?.store(1, SeqCst);
        self.words.wake(place)
    }

    fn look_for(&self, place: usize) -> Result<()> {
        let word = self.words.half_word(place)?;
        while word.load(SeqCst) == 0 {
            std::hint::spin_loop();
        }
        word.store(0, SeqCst);
        Ok(())
    }

    fn await_signal(&self, place: usize) -> Result<()> {
        let word = self.words.half_word(place)?;
        while word.compare_exchange(1, 0, SeqCst, SeqCst).is_err() {
            self.words.nap_on(place, 0, &FOREVER)?;
        }
        Ok(())
    }
}

fn publish(frame: Option<Writing>) -> Result<()> {
    frame.map_or(Ok(()), |mut frame| frame.publish(Content::default(), &FOREVER).map(drop))
}

/// The median over the runs of the nanoseconds of one trip.
fn median(trips: u32, mut trip: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut runs = Vec::with_capacity(RUNS as usize);
    for _ in 0..RUNS {
        let start = Instant::now();
        (0..trips).try_for_each(|_| trip())?;
        runs.push(start.elapsed().as_nanos() as f64 / f64::from(trips));
    }
    runs.sort_by(f64::total_cmp);
    Ok(runs[runs.len() / 2])
}

fn misuse() -> Error {
    Error::new(Kind::Misuse, "expected lines that say futex, handoff or word, and no arguments")
}
