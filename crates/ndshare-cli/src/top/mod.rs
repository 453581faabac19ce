//! `ndshare top`: what rings and caches do just now.
//!
//! `sample` looks at all arenas from outside, and makes rates of two looks: plain data. `draw` makes lines of that, and puts
//! them into a buffer. `screen` has the terminal: it draws, listens to keys and signals, and leaves the terminal as it was.

mod draw;
mod sample;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::thread::sleep;

use ratatui::text::Line;

use crate::Outcome;
use crate::args::Top;
use sample::{Rates, Sample};

pub(crate) fn run(wanted: &Top, is_json: bool, out: &mut dyn Write) -> Outcome {
    if !is_json && !wanted.once {
        if !io::stdout().is_terminal() {
            return Err(
                "expected a terminal to draw on, got a pipe or a file: ndshare top --json writes a line for each \
                        interval, and --once writes one table"
                    .into(),
            );
        }
        return screen::run(wanted.interval);
    }
    let mut before = Sample::take()?;
    // BOUND: with --once one round, else until whoever reads closes the pipe, or a signal comes.
    loop {
        sleep(wanted.interval);
        let now = Sample::take()?;
        let rates = Rates::between(&before, &now);
        match is_json {
            true => writeln!(out, "{}", rates.value())?,
            false => draw::lines(&rates).iter().try_for_each(|line| writeln!(out, "{}", plain(line)))?,
        }
        out.flush()?;
        if wanted.once {
            return Ok(true);
        }
        before = now;
    }
}

/// A line without its colours.
fn plain(line: &Line<'_>) -> String {
    line.to_string().trim_end().to_owned()
}
