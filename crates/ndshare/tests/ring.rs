//! Readers and writers that are made here and used in another process, which has nothing but a reference to them.
//!
//! The other process is this very program, which runs one test that does what its environment says.
#![cfg(not(loom))]

use ndshare::arena::Options;
use ndshare::cache::{Cache, Geometry};
use ndshare::overlay::{Overlay, Uses};
use ndshare::ring::{Content, Format, Mode, RingOptions, Sink, Start, WhenFull};
use ndshare::{Arena, Array, Canvas, Deadline, Error, Kind, Lock, Number, Reader, Result, Ring, Writer};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const FOREVER: Deadline<'static> = Deadline::never();
/// After so long something counts as hung, on the slowest machine.
const HANG: Duration = Duration::from_secs(60);
const TASK: &str = "NDSHARE_TEST_TASK";
const FRAMES: u16 = 20;

/// This program, at a task, with one reference.
fn start(task: &str, reference: &str) -> Child {
    let (name, value) = ndshare::session().unwrap().environment();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["other", "--exact", "--ignored", "--nocapture"]).env(name, value);
    command.env(TASK, format!("{task} {reference}")).stdout(Stdio::piped()).spawn().unwrap()
}

/// What it printed behind "> ", once it has ended well.
fn answer(child: Child) -> String {
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines().find_map(|line| line.split_once("> ")).expect("an answer").1.to_owned()
}

#[test]
#[ignore = "the other process of these tests"]
fn other() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, reference) = task.split_once(' ').unwrap();
    let said = match task {
        "read" => read(reference),
        "write" => write(reference, true),
        "die" => write(reference, false),
        _ => panic!("{task}"),
    };
    println!("\n> {}", said.unwrap());
}

/// The numbers of all frames, and how the stream ends.
fn read(reference: &str) -> Result<String> {
    let reader = Reader::open_reference(&reference.parse()?, &FOREVER)?;
    let mut numbers = Vec::new();
    loop {
        match reader.get(&Deadline::after(HANG)) {
            Ok(frame) => numbers.push(frame.array()?.read::<u16>(&[1, 2])?),
            Err(error) => return Ok(format!("{numbers:?} {:?}", error.kind())),
        }
    }
}

fn write(reference: &str, is_to_close: bool) -> Result<String> {
    let writer = Writer::open_reference(&reference.parse()?, &FOREVER)?;
    put(|| writer.begin(writer.ring().geometry().frame_bytes, &FOREVER), 7)?;
    if !is_to_close {
        std::process::abort();
    }
    writer.close(&FOREVER)?;
    Ok("done".to_owned())
}

fn put(begin: impl FnOnce() -> Result<ndshare::ring::Writing>, number: u16) -> Result<()> {
    let mut frame = begin()?;
    frame.array()?.fill(number)?;
    frame.publish(Content::default(), &FOREVER).map(drop)
}

fn ring(options: RingOptions) -> Arc<Ring> {
    ring_in(ndshare::session().unwrap(), options)
}

fn ring_in(arena: &Arc<Arena>, options: RingOptions) -> Arc<Ring> {
    Ring::new(arena, Format::new(&[2, 3], Number::U16), options, &FOREVER).unwrap()
}

/// The writer is far ahead of a process that does not run yet, and nothing is lost.
#[test]
fn a_reader_that_is_sent_holds_the_writer_back_until_it_has_read() {
    let ring = ring(RingOptions::slots(2));
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let begin = || ring.begin_own(&Deadline::after(Duration::from_millis(30)));
    put(begin, 0).unwrap();
    put(begin, 1).unwrap();
    let Error::Full(full) = put(begin, 2).unwrap_err() else { panic!("the ring was expected to be full") };
    assert!(full.behind.iter().all(|one| one.process.is_none()), "{full:?}");
    let child = start("read", &reader.reference().unwrap().to_string());
    (2..FRAMES).for_each(|number| put(|| ring.begin_own(&Deadline::after(HANG)), number).unwrap());
    // It is the other process's now.
    assert_eq!(reader.reference().unwrap_err().kind(), Kind::Misuse);
    drop(reader);
    ring.close(&FOREVER).unwrap();
    assert_eq!(answer(child), format!("{:?} Closed", (0..FRAMES).collect::<Vec<_>>()));
}

#[test]
fn without_a_reader_nobody_waits_and_the_frames_are_gone() {
    let ring = ring(RingOptions::slots(2));
    (0..FRAMES).for_each(|number| put(|| ring.begin_own(&Deadline::after(HANG)), number).unwrap());
    let late = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    assert!(late.try_get().unwrap().is_none());
}

#[test]
fn a_writer_that_is_sent_ends_the_stream_when_it_is_closed_there() {
    let ring = ring(RingOptions::slots(2));
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let writer = ring.writer(&FOREVER).unwrap();
    let child = start("write", &writer.reference().unwrap().to_string());
    assert_eq!(reader.get(&Deadline::after(HANG)).unwrap().array().unwrap().read::<u16>(&[0, 0]).unwrap(), 7);
    assert_eq!(reader.get(&Deadline::after(HANG)).unwrap_err().kind(), Kind::Closed);
    assert_eq!(answer(child), "done");
}

#[test]
fn the_death_of_a_writer_names_its_process() {
    // An arena of its own: the number is known until another process has the slot of the dead one, and the processes of the
    // tests beside this one come and go in the session.
    let arena = Arena::create(&Options::default()).unwrap();
    let ring = ring_in(&arena, RingOptions::slots(2));
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let writer = ring.writer(&FOREVER).unwrap();
    let mut child = start("die", &writer.reference().unwrap().to_string());
    let pid = child.id();
    assert_eq!(reader.get(&Deadline::after(HANG)).unwrap().seq, 0);
    // Swept before anybody asks: the sweep keeps the number.
    child.wait().unwrap();
    arena.sweep_the_dead().unwrap();
    let error = reader.get(&Deadline::after(HANG)).unwrap_err();
    assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
    let Error::WriterDied(died) = error else { panic!("{error:?}") };
    assert_eq!(died.pid, Some(pid));
}

#[test]
fn a_reference_to_one_thing_opens_as_no_other() {
    let ring = ring(RingOptions::slots(2));
    let (reader, writer) = (ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap(), ring.writer(&FOREVER).unwrap());
    let session = ndshare::session().unwrap();
    let array = Array::zeros(session, &[3], Number::U8).unwrap();
    let cache = Cache::create(session, Geometry::new(1 << 20, None).unwrap(), &FOREVER).unwrap();
    let canvas = Canvas::new(session, &[2, 2], Number::U8).unwrap();
    let uses = Uses::default().with("one", [("x", [3], Number::U8)]).unwrap();
    let overlay = Overlay::new(session, uses, &FOREVER).unwrap();
    let lock = Lock::new(session, &FOREVER).unwrap();
    let all = [
        ("array", array.reference()),
        ("ring", ring.reference()),
        ("reader", reader.reference().unwrap()),
        ("writer", writer.reference().unwrap()),
        ("cache", cache.reference()),
        ("canvas", canvas.reference()),
        ("overlay", overlay.reference()),
        ("lock", lock.reference()),
    ];
    for (name, reference) in &all {
        let opened = [
            ("array", Array::open_reference(reference, &FOREVER).map(drop)),
            ("ring", Ring::open_reference(reference, &FOREVER).map(drop)),
            ("reader", Reader::open_reference(reference, &FOREVER).map(drop)),
            ("writer", Writer::open_reference(reference, &FOREVER).map(drop)),
            ("cache", Cache::open_reference(reference, &FOREVER).map(drop)),
            ("canvas", Canvas::open_reference(reference, &FOREVER).map(drop)),
            ("overlay", Overlay::open_reference(reference, &FOREVER).map(drop)),
            ("lock", Lock::open_reference(reference, &FOREVER).map(drop)),
        ];
        for (wanted, outcome) in opened {
            match outcome {
                Ok(()) => assert_eq!(&wanted, name),
                Err(error) => {
                    let text = error.to_string();
                    let Error::WrongKind(wrong) = error else { panic!("{error:?}") };
                    assert_eq!((wrong.expected.as_str(), wrong.got.as_deref()), (wanted, Some(*name)));
                    assert!(wanted != *name && text.contains(wanted) && text.contains(name), "{text}");
                }
            }
        }
    }
    let told = Ring::open_reference(&all[0].1, &FOREVER).unwrap_err().to_string();
    assert!(told.starts_with("expected a ring's reference, got an array's"), "{told}");
    let told = Array::open_reference(&all[1].1, &FOREVER).unwrap_err().to_string();
    assert!(told.starts_with("expected an array's reference, got a ring's"), "{told}");
}

#[test]
fn a_frame_is_published_once_and_a_second_time_fails_at_once() {
    let ring = ring(RingOptions::slots(1));
    let _behind = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let mut frame = ring.begin_own(&FOREVER).unwrap();
    frame.publish(Content::default(), &FOREVER).unwrap();
    // The ring is full: it would wait for ever.
    let error = frame.publish(Content::default(), &FOREVER).unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("published once")), (Kind::Misuse, true), "{error}");
}

#[test]
fn numbers_that_cannot_be_are_told() {
    let arena = ndshare::session().unwrap();
    let make = |options| Ring::new(arena, Format::new(&[2], Number::U8), options, &FOREVER).unwrap_err();
    let error = make(RingOptions { keep: 21, when_full: WhenFull::DropOldest, ..RingOptions::slots(20) });
    assert_eq!(error.kind(), Kind::InvalidValue);
    assert!(error.to_string().contains("slots, 20, got 21"), "{error}");
    for slots in [0, 65_537] {
        let error = make(RingOptions::slots(slots)).to_string();
        assert!(error.contains("1 to 65536 slots") && error.contains(&format!("got {slots}")), "{error}");
    }
}

#[test]
fn frames_go_to_a_ring_or_to_a_writer_and_know_their_numbers() {
    let options = RingOptions { when_full: WhenFull::DropNewest, ..RingOptions::slots(2) };
    let session = ndshare::session().unwrap();
    let ring = Ring::new(session, Format::new(&[2], Number::U8), options, &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let writer = ring.writer(&FOREVER).unwrap();
    let fill = |sink: &dyn Sink| {
        let mut writing = sink.begin(2, &FOREVER).unwrap();
        assert_eq!(writing.seq(), None);
        writing.publish(Content::default(), &FOREVER).unwrap();
        writing.seq()
    };
    assert_eq!([fill(&ring), fill(&*writer), fill(&ring)], [Some(0), Some(1), None], "a third has no room");
    assert_eq!(reader.get(&FOREVER).unwrap().seq, 0);
    let array = Array::zeros(session, &[2], Number::U8).unwrap();
    let publish = |sink: &dyn Sink| sink.publish_block(array.hold(), 2, Content::default(), &FOREVER).unwrap().seq();
    assert_eq!([publish(&*writer), publish(&ring)], [Some(2), None]);
}
