//! Times a hand-over between two processes: through a ring, and by a bare futex on a word of the same shared memory.
//!
//! It starts itself once more as the other side, and prints both process ids, so that whoever started it can give each
//! a processor of its own. Then for each line of its input it prints nanoseconds: `futex` is a round trip in which both
//! sides sleep; `handoff` is half a round trip of frames of a ring in which both sides look without sleeping; `word` is
//! the same of nothing but one word; `solo` is a frame that one thread publishes and gets itself, so that no cache line
//! travels. `stream` is a frame that is copied in while the other side gets each and looks at its last byte, as rings wait
//! by default; `keen` is the same where the other side never sleeps; `copy` is the copy alone, into as many places in turn
//! as the ring has blocks in use, which `blocks` counts.

use ndshare::arena::{Arena, BlockId, Deadline, Hold, Options};
use ndshare::element::Number;
use ndshare::prim::Ordering::SeqCst;
use ndshare::ring::{Content, Format, Mode, Reader, Ring, RingOptions, Start, Writing};
use ndshare::{Array, Error, Kind, Result};
use std::collections::BTreeSet;
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
const COPY_RUNS: u32 = 15;
const COPIES: u32 = 200;
const COPY_SLOTS: usize = 8;
/// Who looks for so long never sleeps here.
const BUSY: Duration = Duration::from_secs(1);
/// As rings do by default.
const USUAL: Duration = Duration::from_micros(20);
/// Places in the block of words: one for each direction, in lines of their own.
const THERE: usize = 0;
const BACK: usize = 8;

/// What one side works with: a ring to write to, a reader of the other ring, and the words of the bare futex.
struct Side {
    out: Arc<Ring>,
    into: Reader,
    words: Hold,
    /// A ring that frames are copied into, and on the other side its reader.
    stream: Arc<Ring>,
    consumer: Option<Reader>,
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() { measure() } else { Ok(answer(&arguments)?) }
}

fn measure() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arena = Arena::create(&Options { budget_bytes: Some(256 << 20), ..Options::default() })?;
    let make_of = |slots| {
        let ring =
            Ring::new(&arena, Format::new(&[FRAME_BYTES as usize], Number::U8), RingOptions::slots(slots), &FOREVER)?;
        let reader = ring.reader(Mode::Every, Start::Next, &FOREVER)?;
        Ok::<_, Error>((ring, reader))
    };
    let ((there, theirs), (back, mine), (stream, consumer)) = (make_of(4)?, make_of(4)?, make_of(COPY_SLOTS)?);
    [&there, &back].iter().for_each(|ring| ring.set_spin(BUSY));
    let words = arena.alloc(1024, 64, true, &FOREVER)?;
    let blocks = [there.head(), theirs.token(), back.head(), &words, stream.head(), consumer.token()];
    let mut child = start_other(&arena, blocks, [theirs.index(), consumer.index()])?;
    // Its readers stay until the other side has opened them; there is no end to that.
    let side = Side { out: there, into: mine, words, stream, consumer: None };
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
    drop((theirs, consumer));
    Ok(())
}

fn start_other(arena: &Arc<Arena>, blocks: [&Hold; 6], places: [usize; 2]) -> std::io::Result<Child> {
    let names = blocks.map(|hold| format!("{}:{}", hold.block().index, hold.block().generation));
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.arg(arena.locator().to_string()).args(names).args(places.map(|place| place.to_string()));
    command.stdin(Stdio::piped()).spawn()
}

fn answer(arguments: &[String]) -> Result<()> {
    let [locator, there, token, back, words, stream, consumer, place, its_place] = arguments else {
        return Err(misuse());
    };
    let arena = Arena::attach(&locator.parse()?)?;
    let take = |name: &str| {
        let (index, generation) = name.split_once(':').ok_or_else(misuse)?;
        let number = |text: &str| text.parse().map_err(|_| misuse());
        arena.take(BlockId { index: number(index)?, generation: number(generation)? })
    };
    let open = |head: &str, place: &str, token: &str| {
        Reader::open(Ring::open(take(head)?)?, place.parse().map_err(|_| misuse())?, take(token)?)
    };
    let (into, consumer) = (open(there, place, token)?, open(stream, its_place, consumer)?);
    into.ring().set_spin(BUSY);
    let stream = consumer.ring().clone();
    let side = Side { out: Ring::open(take(back)?)?, into, words: take(words)?, stream, consumer: Some(consumer) };
    for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        side.follow(&line)?;
    }
    Ok(())
}

impl Side {
    /// Plays the first part, and gives the nanoseconds of what was asked for.
    fn lead(&self, what: &str) -> Result<f64> {
        match what {
            "futex" => median(RUNS, FUTEX_TRIPS, || {
                self.signal(THERE)?;
                self.await_signal(BACK)
            }),
            "word" => {
                let trip = || {
                    self.words.half_word(THERE)?.store(1, SeqCst);
                    self.look_for(BACK)
                };
                Ok(median(RUNS, RING_TRIPS, trip)? / 2.0)
            }
            "handoff" => {
                let mut next = Some(self.begin()?);
                let trip = || {
                    publish(next.take())?;
                    // The next frame is chosen while the other side has this one.
                    next = Some(self.begin()?);
                    self.into.get(&FOREVER).map(drop)
                };
                Ok(median(RUNS, RING_TRIPS, trip)? / 2.0)
            }
            "solo" => self.solo(),
            "stream" | "keen" => self.fill(&mut BTreeSet::new()),
            "blocks" => {
                let mut places = BTreeSet::new();
                self.fill(&mut places)?;
                Ok(places.len() as f64)
            }
            _ => match what.strip_prefix("copy ").and_then(|count| count.parse().ok()) {
                Some(count) => self.copy(count),
                None => Err(misuse()),
            },
        }
    }

    /// Publishes and gets frames in this thread alone.
    fn solo(&self) -> Result<f64> {
        let ring = Ring::new(
            self.words.arena(),
            Format::new(&[FRAME_BYTES as usize], Number::U8),
            RingOptions::slots(4),
            &FOREVER,
        )?;
        let reader = ring.reader(Mode::Every, Start::Next, &FOREVER)?;
        median(RUNS, RING_TRIPS, || {
            publish(Some(ring.begin(FRAME_BYTES, &FOREVER)?))?;
            reader.get(&FOREVER).map(drop)
        })
    }

    /// Copies frames into the ring; notes where they lie.
    fn fill(&self, places: &mut BTreeSet<usize>) -> Result<f64> {
        let source = vec![7_u8; FRAME_BYTES as usize];
        let took = median(COPY_RUNS, COPIES, || {
            let frame = self.stream.begin(FRAME_BYTES, &FOREVER)?;
            frame.array()?.copy_from_slice(&source)?;
            places.insert(frame.hold()?.as_ptr().addr());
            publish(Some(frame))
        });
        while self.stream.waiting() > 0 {
            std::thread::yield_now();
        }
        took
    }

    /// The same copies into so many arrays in turn.
    fn copy(&self, count: usize) -> Result<f64> {
        let source = vec![7_u8; FRAME_BYTES as usize];
        let make = |_| Array::zeros(self.words.arena(), &[FRAME_BYTES as usize], Number::U8);
        let arrays: Vec<Array> = (0..count).map(make).collect::<Result<_>>()?;
        let mut next = (0..count).cycle();
        median(COPY_RUNS, COPIES, || arrays[next.next().unwrap_or(0)].copy_from_slice(&source))
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
            "stream" | "blocks" => self.consume(USUAL),
            "keen" => self.consume(BUSY),
            _ => Ok(()),
        }
    }

    /// Gets the frames that the other side copies in, and looks at the last byte of each.
    fn consume(&self, spin: Duration) -> Result<()> {
        let Some(consumer) = &self.consumer else { return Err(misuse()) };
        consumer.ring().set_spin(spin);
        (0..COPY_RUNS * COPIES).try_for_each(|_| {
            let frame = consumer.get(&FOREVER)?;
            let last = frame.array()?.read::<u8>(&[FRAME_BYTES as usize - 1])?;
            if last == 7 { Ok(()) } else { Err(misuse()) }
        })
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
fn median(count: u32, trips: u32, mut trip: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut runs = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let start = Instant::now();
        (0..trips).try_for_each(|_| trip())?;
        runs.push(start.elapsed().as_nanos() as f64 / f64::from(trips));
    }
    runs.sort_by(f64::total_cmp);
    Ok(runs[runs.len() / 2])
}

fn misuse() -> Error {
    Error::new(Kind::Misuse, "expected lines that say what to time, as futex, handoff or word, and no arguments")
}
