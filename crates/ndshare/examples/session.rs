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

use ndshare::{Array, Deadline};
use std::env;
use std::process::Command;

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
    let array = Array::from_slice(ndshare::session()?, &[4], &[1_u64, 2, 3, 4])?;
    let (name, value) = ndshare::session()?.environment();
    let reference = array.reference().to_string();
    let status = Command::new(program).args(arguments).arg(reference).env(name, value).status()?;
    println!("{status}, {:?}", array.to_vec::<u64>()?);
    Ok(())
}

fn add(reference: &str) -> Outcome<()> {
    let array = Array::open_reference(&reference.parse()?, &Deadline::never())?;
    let items: Vec<u64> = array.to_vec::<u64>()?.iter().map(|item| item + 10).collect();
    array.copy_from_slice(&items)?;
    println!("{items:?}");
    Ok(())
}
