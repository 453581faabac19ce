//! One cache for programs in Rust and Python: values by the same keys.
//!
//! ```text
//! tiles run PROGRAM ARGUMENTS…   stores a tile in the cache "tiles", starts a program, and prints what that has stored
//! tiles get                      prints the value of each key of the cache "tiles", and loads one more
//! ```
//!
//! In Python the cache is `nds.Cache("16 MiB", name="tiles")`, and the key of a tile is `("tile", row, column)`.

use ndshare::cache::{Geometry, Key};
use ndshare::{Array, Cache, Deadline};
use std::env;
use std::process::Command;
use std::sync::Arc;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const FOREVER: Deadline = Deadline::never();

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let cache = Cache::named(ndshare::session()?, "tiles", Geometry::new(16 << 20, None)?, &FOREVER)?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", program, ref rest @ ..] => run(&cache, program, rest),
        ["get"] => get(&cache),
        _ => Err("expected: run PROGRAM ARGUMENTS…, or get".into()),
    }
}

fn run(cache: &Arc<Cache>, program: &str, arguments: &[&str]) -> Outcome<()> {
    load(cache, 0, 1)?;
    let (name, value) = ndshare::session()?.environment();
    let status = Command::new(program).args(arguments).env(name, value).status()?;
    println!("{status}");
    show(cache)
}

fn get(cache: &Arc<Cache>) -> Outcome<()> {
    show(cache)?;
    println!("loaded: {:?}", load(cache, 7, 8)?.to_vec::<u16>()?);
    Ok(())
}

/// The tile of a row and a column, made here if nobody has it.
fn load(cache: &Arc<Cache>, row: u16, column: u16) -> Outcome<Array> {
    let key = Key::of(&("tile", row, column))?;
    Ok(cache.fetch(&key, &FOREVER, |_| Array::from_slice(ndshare::session()?, &[1, 2], &[row, column]))?)
}

fn show(cache: &Cache) -> Outcome<()> {
    let mut lines = Vec::new();
    for key in cache.keys(&FOREVER)? {
        if let Some(array) = cache.get(&key, &FOREVER)? {
            lines.push(format!("{key}: {array:?} {:?}", array.to_bytes()?));
        }
    }
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}
