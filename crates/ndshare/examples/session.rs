//! One session for programs in Rust and Python: an array goes by a reference, a text, and both work on the same bytes.
//!
//! ```text
//! session run PROGRAM ARGUMENTS…   puts 1, 2, 3, 4 (uint64) into the session, starts a program with a reference to them
//!                                  as its last argument, and prints what they are when it has ended
//! session add REFERENCE            adds 10 to each, and prints them
//! ```
//!
//! Both join the session that their environment names; `run` starts one if there is none. In Python the reference is
//! `nds.ref(text).open()`, and `str(nds.ref(array))` makes one.

use ndshare::arena::{Arena, Hold, Patience};
use ndshare::prim::Ordering::SeqCst;
use ndshare::session;
use ndshare::view::Handle;
use std::env;
use std::process::Command;

const ITEM_BYTES: usize = 8;
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", program, ref rest @ ..] => run(program, rest),
        ["add", reference] => add(reference),
        _ => Err("expected: run PROGRAM ARGUMENTS…, or add REFERENCE".into()),
    }
}

fn run(program: &str, arguments: &[&str]) -> Outcome<()> {
    let hold = ndshare::session()?.alloc(4 * ITEM_BYTES, 64, true, &Patience::forever())?;
    for (index, number) in (1..=4).enumerate() {
        hold.word(index)?.store(number, SeqCst);
    }
    let (name, value) = session::environment()?;
    let status =
        Command::new(program).args(arguments).arg(reference(&hold, 4).to_string()).env(name, value).status()?;
    println!("{status}, {:?}", items(&hold, 0, 4)?);
    Ok(())
}

fn add(reference: &str) -> Outcome<()> {
    let handle: Handle = reference.parse()?;
    let hold = open(&handle)?;
    handle.check(ITEM_BYTES, hold.len_bytes())?;
    let (&[length], &[stride]) = (&handle.shape[..], &handle.strides[..]) else {
        return Err(format!("expected one axis, got shape {:?}", handle.shape).into());
    };
    if handle.dtype != "<u8" || stride != ITEM_BYTES as isize {
        return Err(format!("expected contiguous uint64, got {} with stride {stride}", handle.dtype).into());
    }
    let first = handle.offset as usize / ITEM_BYTES;
    for index in first..first + length {
        hold.word(index)?.fetch_add(10, SeqCst);
    }
    println!("{:?}", items(&hold, first, length)?);
    Ok(())
}

/// A reference to contiguous numbers at the start of a block, for as long as somebody holds it.
fn reference(hold: &Hold, length: usize) -> Handle {
    Handle {
        locator: hold.arena().locator(),
        block: hold.block(),
        ticket: None,
        session: true,
        readonly: false,
        offset: 0,
        shape: vec![length],
        strides: vec![ITEM_BYTES as isize],
        dtype: "<u8".into(),
    }
}

fn open(handle: &Handle) -> ndshare::Result<Hold> {
    if handle.session {
        session::adopt(handle.locator)?;
    }
    let arena = Arena::attach(&handle.locator)?;
    match handle.ticket {
        Some(ticket) => arena.claim(handle.block, ticket, &Patience::forever()),
        None => arena.take(handle.block),
    }
}

fn items(hold: &Hold, first: usize, length: usize) -> ndshare::Result<Vec<u64>> {
    (first..first + length).map(|index| Ok(hold.word(index)?.load(SeqCst))).collect()
}
