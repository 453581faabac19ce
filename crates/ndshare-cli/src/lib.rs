//! The command `ndshare`, as a library: the Python package has it linked into its extension, and `main` is a program of it.
//!
//! `args` parses the command line into a struct; a file for each verb acts on it. Data goes to standard output, and messages
//! go to standard error. A reader that closes the pipe ends the command, without a word.

#![forbid(unsafe_code)]

mod args;
mod bench;
mod check;
mod demo;
mod doctor;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod ls;
mod note;
mod npy;
mod proc;
mod rm;
mod shell;
mod text;
mod top;
mod view;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind, Write};

use args::{Cli, Verb};
pub use check::findings;
use clap::Parser;
pub use frames::ring_in_session;

/// All went well.
const GOOD: u8 = 0;
/// Something failed, was not there, or is broken.
const BAD: u8 = 1;

/// The verbs that Python does.
const NO_BRIDGE: &str = "the bridge is written in Python: expected the command of the Python package, got the bare program; \
                         run `pip install \"ndshare[net]\"` and the `ndshare` that comes with it";

const NO_FILES: &str = "record and replay are written in Python: expected the command of the Python package, got the bare program; \
                        run `pip install ndshare` and the `ndshare` that comes with it";

const NO_PEERS: &str = "a bench with peers is written in Python: expected the command of the Python package, got the bare program; \
                        run `make bench` in the sources, or the `ndshare` that `pip install ndshare` brings";

/// Nobody could look.
const BLIND: u8 = 2;

/// Why nobody could look.
#[derive(Debug)]
struct Blind(String);

impl std::fmt::Display for Blind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Blind {}

/// What a verb says at its end: whether all is well.
type Outcome = Result<bool, Box<dyn Error>>;

/// Runs the command with these arguments, of which the first is its own name, and returns its exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    match Cli::try_parse_from(arguments).and_then(Cli::checked) {
        Ok(cli) => finish(act(&cli)),
        Err(usage) => {
            // Help goes to standard output; a terminal that is gone hears nothing.
            let _ = usage.print();
            usage.exit_code() as u8
        }
    }
}

fn act(cli: &Cli) -> Outcome {
    let mut out = BufWriter::new(io::stdout().lock());
    let is_good = match &cli.verb {
        Verb::Ls(wanted) => ls::run(wanted, cli.json, &mut out),
        Verb::Top(wanted) => top::run(wanted, cli.json, &mut out),
        Verb::Check(wanted) => check::run(wanted, cli.json, &mut out),
        Verb::Doctor => doctor::run(cli.json, &mut out),
        Verb::Rm(wanted) => rm::run(wanted, cli.json, &mut out),
        Verb::Cat(wanted) => frames::cat(wanted, &mut out),
        Verb::Dump(wanted) => frames::dump(wanted, cli.json, &mut out),
        Verb::View(wanted) => view::run(wanted, cli.json, &mut out),
        Verb::Demo(wanted) => demo::run(wanted, cli.json, &mut out),
        Verb::Bench(wanted) if wanted.peers => Err(NO_PEERS.into()),
        Verb::Bench(wanted) => bench::run(wanted, cli.json, &mut out),
        Verb::Bridge(_) => Err(NO_BRIDGE.into()),
        Verb::Record(_) | Verb::Replay(_) => Err(NO_FILES.into()),
        Verb::Completions { shell } => shell::completions(*shell, &mut out),
        Verb::Man { verb } => shell::man(verb.as_deref(), &mut out),
    }?;
    out.flush()?;
    Ok(is_good)
}

fn finish(outcome: Outcome) -> u8 {
    match outcome {
        Ok(true) => GOOD,
        Ok(false) => BAD,
        Err(error) if is_closed_pipe(&*error) => GOOD,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ndshare: {}", text::printable(&error.to_string()));
            if error.is::<Blind>() { BLIND } else { BAD }
        }
    }
}

/// Whether whoever read the output has had enough of it.
fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
