//! The terminal: it is taken, drawn on, and left as it was, whatever ends the loop: a key, a signal, an error or a panic.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::draw::{draw, lines};
use super::sample::{Rates, Sample};
use crate::Outcome;

/// Signals that end the command; the terminal comes first.
const ENDS: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];
/// How soon a signal is noticed.
const NAP: Duration = Duration::from_millis(50);

/// After so long a signal ends this process though the terminal was not left.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn run(interval: Duration) -> Outcome {
    end_anyway()?;
    let mut signals = Signals::new(ENDS)?;
    let came = restored(ratatui::try_init, |terminal| watch(terminal, interval, &mut signals), ratatui::restore)?;
    if let Some(signal) = came {
        // It ends as it would have ended without us.
        signal_hook::low_level::emulate_default_handler(signal)?;
    }
    Ok(true)
}

/// Ends this process behind a signal that the loop does not heed: of a terminal that is gone, whoever waits for a key never comes
/// back.
fn end_anyway() -> std::io::Result<()> {
    let mut signals = Signals::new(ENDS)?;
    let end = move || {
        let came = signals.forever().next();
        thread::sleep(PATIENCE);
        came.map(signal_hook::low_level::emulate_default_handler)
    };
    thread::Builder::new().name("ndshare-end".to_owned()).spawn(end).map(drop)
}

/// Work on what `take` takes; `leave` comes behind it, also when it panics or cannot be taken whole.
fn restored<T, R>(
    take: impl FnOnce() -> std::io::Result<T>,
    work: impl FnOnce(&mut T) -> Result<R, Box<dyn Error>>,
    leave: fn(),
) -> Result<R, Box<dyn Error>> {
    struct Leave(fn());
    impl Drop for Leave {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let _leave = Leave(leave);
    work(&mut take()?)
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Leave,
    Scroll(i32),
    Nothing,
}

fn wish(event: &Event, page: u16) -> Wish {
    let &Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return Wish::Nothing };
    if kind == KeyEventKind::Release {
        return Wish::Nothing;
    }
    match code {
        KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => Wish::Leave,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Wish::Leave,
        KeyCode::Down => Wish::Scroll(1),
        KeyCode::Up => Wish::Scroll(-1),
        KeyCode::PageDown => Wish::Scroll(page.into()),
        KeyCode::PageUp => Wish::Scroll(-i32::from(page)),
        KeyCode::Home => Wish::Scroll(i32::MIN),
        _ => Wish::Nothing,
    }
}

/// Draws until it is to end; gives the signal that ended it, if it was one.
fn watch(
    terminal: &mut DefaultTerminal,
    interval: Duration,
    signals: &mut Signals,
) -> Result<Option<i32>, Box<dyn Error>> {
    let mut before = Sample::take()?;
    let mut rates = Rates::between(&before, &before);
    let (mut first, mut due) = (0_u16, Instant::now() + interval);
    // BOUND: until a key or a signal ends it.
    loop {
        terminal.draw(|frame| draw(&rates, first, frame.area(), frame.buffer_mut()))?;
        let mut came = signals.pending().next();
        // BOUND: `due`, or an event.
        while came.is_none() && Instant::now() < due && !event::poll(NAP.min(interval))? {
            came = signals.pending().next();
        }
        if came.is_some() {
            return Ok(came);
        }
        if event::poll(Duration::ZERO)? {
            match wish(&event::read()?, terminal.size()?.height) {
                Wish::Leave => return Ok(None),
                Wish::Scroll(by) => first = scrolled(first, by, lines(&rates).len()),
                // A new size is drawn by the next round.
                Wish::Nothing => {}
            }
        }
        if Instant::now() >= due {
            let now = Sample::take()?;
            (rates, before, due) = (Rates::between(&before, &now), now, Instant::now() + interval);
        }
    }
}

/// The first line to show, `by` lines further, of so many.
fn scrolled(first: u16, by: i32, lines: usize) -> u16 {
    let last = u16::try_from(lines.saturating_sub(1)).unwrap_or(u16::MAX);
    u16::try_from(i32::from(first).saturating_add(by).max(0)).unwrap_or(last).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndshare::prim::{AtomicU32, Ordering::SeqCst};
    use std::panic::catch_unwind;

    static LEFT: AtomicU32 = AtomicU32::new(0);

    #[test]
    fn the_terminal_is_left_after_work_an_error_and_a_panic() {
        fn leave() {
            LEFT.fetch_add(1, SeqCst);
        }
        let counted = || LEFT.load(SeqCst);
        assert!(restored(|| Ok(()), |()| Ok(7), leave).is_ok_and(|seven| seven == 7));
        assert!(restored(|| Ok(()), |()| Err::<(), _>("no".into()), leave).is_err());
        assert!(restored(|| Err(std::io::Error::other("half taken")), |()| Ok(()), leave).is_err());
        assert_eq!(counted(), 3);
        assert!(catch_unwind(|| restored(|| Ok(()), |()| -> Result<(), _> { panic!("a bug") }, leave)).is_err());
        assert_eq!(counted(), 4);
    }

    #[test]
    fn keys_leave_and_scroll() {
        let key = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)), 20);
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Wish::Leave);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Wish::Leave);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), Wish::Nothing);
        assert_eq!(key(KeyCode::PageDown, KeyModifiers::NONE), Wish::Scroll(20));
        assert_eq!(wish(&Event::Resize(3, 4), 20), Wish::Nothing);
        assert_eq!((scrolled(3, -9, 10), scrolled(3, i32::MIN, 10), scrolled(3, 99, 10)), (0, 0, 9));
        assert_eq!((scrolled(0, 1, 0), scrolled(u16::MAX, i32::MAX, usize::MAX)), (0, u16::MAX));
    }
}
