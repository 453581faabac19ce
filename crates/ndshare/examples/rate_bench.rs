//! Times small frames, as lines of a scanner or events of a camera, from process to process at the full rate.
//!
//! It starts itself once more as the consumer, which gets each frame and looks at its first byte. For frames of 1, 2 and
//! 8 KiB it prints how many nanoseconds one takes, and how many frames come in a second: one by one (`begin`, a copy and
//! `publish`; `get`), and a hundred at a time (`publish_many`; `get_many`). Nobody loses any; the median of some runs counts.
//! It is the twin of `bench/rates.py`, without Python. Each side is to have a processor of its own; `CONSUMER_BY` is what the
//! other one is started by: `CONSUMER_BY="taskset -c 1" taskset -c 0 target/release/examples/rate_bench`.

use ndshare::arena::Deadline;
use ndshare::element::Number;
use ndshare::ring::{Content, Format, Many, Mode, Reader, Ring, RingOptions, Start, publish_many};
use ndshare::{Error, Kind, Result};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

const FOREVER: Deadline<'static> = Deadline::never();
const FRAME_BYTES: [usize; 3] = [1 << 10, 2 << 10, 8 << 10];
const SLOTS: usize = 1024;
const BATCH: usize = 100;
const FRAMES: usize = 20_000;
const RUNS: usize = 21;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => measure(),
        [reader, batch] => Ok(consume(&Reader::open_reference(&reader.parse()?, &FOREVER)?, batch.parse()?)?),
        _ => Err("expected no arguments".into()),
    }
}

fn measure() -> std::result::Result<(), Box<dyn std::error::Error>> {
    println!("{:>10} {:>16} {:>16} {:>16} {:>16}", "bytes", "one, ns", "one, 1/s", "many, ns", "many, 1/s");
    for len_bytes in FRAME_BYTES {
        let [one, many] = [time(len_bytes, 1)?, time(len_bytes, BATCH)?];
        println!("{len_bytes:>10} {one:>16.0} {:>16.0} {many:>16.0} {:>16.0}", 1e9 / one, 1e9 / many);
    }
    Ok(())
}

/// The median over the runs of the nanoseconds of one frame.
fn time(len_bytes: usize, batch: usize) -> std::result::Result<f64, Box<dyn std::error::Error>> {
    let format = Format::new(&[len_bytes], Number::U8);
    let ring = Ring::new(ndshare::session()?, format, RingOptions::slots(SLOTS), &FOREVER)?;
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER)?;
    let mut consumer = Consumer::start(&reader.reference()?.to_string(), batch)?;
    let lines: Vec<Vec<u8>> = (0..FRAMES).map(|index| vec![(index % 251) as u8; len_bytes]).collect();
    let expected: u64 = lines.iter().map(|line| u64::from(line[0])).sum();
    let mut runs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        consumer.ask()?;
        let start = Instant::now();
        produce(&ring, &lines, batch)?;
        let seen = consumer.answer()?;
        runs.push(start.elapsed().as_nanos() as f64 / FRAMES as f64);
        assert_eq!(seen, expected, "the consumer saw other frames");
    }
    consumer.end()?;
    runs.sort_by(f64::total_cmp);
    Ok(runs[RUNS / 2])
}

fn produce(ring: &Arc<Ring>, lines: &[Vec<u8>], batch: usize) -> Result<()> {
    if batch == 1 {
        return lines.iter().try_for_each(|line| {
            let mut writing = ring.begin(line.len() as u64, &FOREVER)?;
            writing.array()?.copy_from_slice(line)?;
            writing.publish(Content::default(), &FOREVER).map(drop)
        });
    }
    lines.chunks(batch).try_for_each(|lines| {
        let frames = lines.iter().map(|line| Many { len_bytes: line.len() as u64, ..Many::default() });
        let copy = |index: usize, writing: &_| copy_line(writing, &lines[index]);
        publish_many(ring, frames, copy, &FOREVER).error.map_or(Ok(()), Err)
    })
}

fn copy_line(writing: &ndshare::ring::Writing, line: &[u8]) -> Result<()> {
    writing.array()?.copy_from_slice(line)
}

/// Gets as many frames as a run has for each line of the input, and prints the sum of their first bytes.
fn consume(reader: &Reader, batch: usize) -> Result<()> {
    for _ in std::io::stdin().lock().lines() {
        let (mut count, mut sum) = (0, 0);
        while count < FRAMES {
            let frames = if batch == 1 { vec![reader.get(&FOREVER)?] } else { reader.get_many(batch, &FOREVER)? };
            count += frames.len();
            for frame in frames {
                sum += u64::from(frame.array()?.read::<u8>(&[0])?);
            }
        }
        println!("{sum}");
    }
    Ok(())
}

/// The other process.
struct Consumer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Consumer {
    fn start(reader: &str, batch: usize) -> std::io::Result<Self> {
        let (by, program) = (std::env::var("CONSUMER_BY").unwrap_or_default(), std::env::current_exe()?);
        let mut words = by.split_whitespace().map(OsString::from).chain([program.into_os_string()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args([reader, &batch.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let missing = || std::io::Error::other("expected pipes to the consumer");
        let (input, output) = child.stdin.take().zip(child.stdout.take()).ok_or_else(missing)?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn ask(&mut self) -> std::io::Result<()> {
        writeln!(self.input, "go")
    }

    fn answer(&mut self) -> std::result::Result<u64, Box<dyn std::error::Error>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().parse().map_err(|_| Error::new(Kind::Misuse, format!("expected a sum, got {line:?}")))?)
    }

    fn end(self) -> std::io::Result<()> {
        let Self { mut child, input, output } = self;
        drop((input, output));
        child.wait().map(drop)
    }
}
