//! What the rates look like: lines of text, in a buffer or on paper. Nothing here looks at a process or a terminal.

use ndshare::layout::human;
use ndshare::ring::SeenNote;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Stylize;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget};

use super::sample::{ArenaRates, CacheRates, Rates, ReaderRates, RingRates};
use crate::note;
use crate::proc::told_of;
use crate::text::printable;

/// A name takes so many columns at the most.
const NAME: usize = 28;
const KEYS: &str = "q leaves, arrows scroll";

/// Draws the rates from the line `first` on.
pub(crate) fn draw(rates: &Rates, first: u16, area: Rect, buffer: &mut Buffer) {
    let [mut head, mut body] = [area, area];
    head.height = head.height.min(1);
    body.y += head.height;
    body.height -= head.height;
    Line::from(format!("ndshare top, over {:.1} s: {KEYS}", rates.seconds)).reversed().render(head, buffer);
    Paragraph::new(lines(rates)).scroll((first, 0)).render(body, buffer);
}

/// All of it, line by line.
pub(crate) fn lines(rates: &Rates) -> Vec<Line<'static>> {
    if rates.arenas.is_empty() {
        return vec![Line::from("no arenas")];
    }
    rates.arenas.iter().flat_map(of_arena).collect()
}

fn of_arena(arena: &ArenaRates) -> Vec<Line<'static>> {
    let place = told_of(arena.place.as_ref(), &arena.sessions);
    let memory = format!("{} of {}", human(arena.used_bytes), human(arena.budget_bytes));
    let mut lines = vec![Line::from(format!("ARENA {}{place}  {memory}", arena.id)).bold()];
    if let Some(trouble) = &arena.trouble {
        lines.push(Line::from(format!("  not looked into: {}", printable(trouble))).red());
    }
    if !arena.rings.is_empty() {
        let titles = format!("  {:NAME$} {:>10} {:>9} {:>12} {:>9}", "RING", "FRAMES/S", "GB/S", "WRITTEN", "MISSED");
        lines.push(Line::from(titles).dim());
        lines.extend(arena.rings.iter().flat_map(of_ring));
    }
    if !arena.caches.is_empty() {
        let titles = format!("  {:NAME$} {:>10} {:>9} {:>12} {:>9}", "CACHE", "LOOKUPS/S", "HITS", "BYTES", "ENTRIES");
        lines.push(Line::from(titles).dim());
        lines.extend(arena.caches.iter().map(of_cache));
    }
    lines
}

/// A name that is not longer than its column, and cannot steer the terminal.
fn name(text: &str, width: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
}

fn of_ring(ring: &RingRates) -> Vec<Line<'static>> {
    let missed: u64 = ring.readers.iter().map(|reader| reader.missed).fold(0, u64::saturating_add);
    let (frames, bytes) = (number(ring.frames_per_s, 1), number(ring.bytes_per_s.map(|bytes| bytes * 1e-9), 3));
    let closed = if ring.closed { " closed" } else { "" };
    let (title, written) = (name(&ring.name, NAME), ring.written);
    let row = format!("  {title:NAME$} {frames:>10} {bytes:>9} {written:>12} {missed:>9}{closed}");
    let writers = ring.writers.iter().map(|(pid, process)| {
        let process = name(process, NAME);
        Line::from(format!("    writer {pid} {process}"))
    });
    let readers = ring.readers.iter().map(|reader| of_reader(reader, ring.slots));
    std::iter::once(Line::from(row)).chain(ring.note.as_ref().map(of_note)).chain(writers).chain(readers).collect()
}

fn of_note(seen: &SeenNote) -> Line<'static> {
    let kind = seen.note.as_ref().map_or(String::new(), |note| format!("{} of ", note::kind(note)));
    let says = seen.note.as_ref().map(note::beginning).filter(|says| !says.is_empty());
    let says = says.map_or(String::new(), |says| format!(": {says}"));
    Line::from(format!("    note: {kind}{} bytes{says}", seen.len_bytes))
}

fn of_reader(reader: &ReaderRates, slots: u32) -> Line<'static> {
    let process = reader.process.as_ref().map_or("not used yet".to_owned(), |(pid, process)| {
        let process = name(process, NAME);
        format!("{pid} {process}")
    });
    let group = reader.group.as_ref().map_or(String::new(), |group| format!(" {:?}", name(group, NAME)));
    let (lag, missed, mode) = (reader.lag, reader.missed, reader.mode);
    let dead = if reader.alive { "" } else { " (dead)" };
    let line = Line::from(format!("    reader {process}{dead}: {mode}{group}, lag {lag}, missed {missed}"));
    match reader {
        ReaderRates { alive: false, .. } => line.red(),
        // The ring is full for its sake.
        ReaderRates { lag, mode: "every" | "group", .. } if *lag >= u64::from(slots) => line.yellow(),
        _ => line,
    }
}

fn of_cache(cache: &CacheRates) -> Line<'static> {
    let hits = cache.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
    let (title, lookups) = (name(&cache.name, NAME), number(cache.lookups_per_s, 1));
    let (bytes, entries, most) = (human(cache.bytes), cache.entries, human(cache.maxsize));
    Line::from(format!("  {title:NAME$} {lookups:>10} {hits:>9} {bytes:>12} {entries:>9} of {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndshare::ring::Note;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn rates() -> Rates {
        let reader = ReaderRates {
            process: Some((14702, "view\u{1b}er".to_owned())),
            mode: "every",
            group: None,
            lag: 8,
            missed: 3,
            alive: true,
        };
        let ring = RingRates {
            name: "camera".to_owned(),
            frames_per_s: Some(29.97),
            bytes_per_s: Some(115e6),
            written: 1234,
            slots: 8,
            closed: false,
            note: None,
            writers: vec![(14518, "grab".to_owned())],
            readers: vec![reader.clone(), ReaderRates { process: None, alive: false, lag: 0, ..reader }],
        };
        let cache = CacheRates {
            name: "t".repeat(100),
            hit_ratio: Some(0.981),
            lookups_per_s: None,
            entries: 7,
            bytes: 1 << 20,
            maxsize: 1 << 30,
        };
        let arena = ArenaRates {
            id: "e013bb9f62ff187b".to_owned(),
            place: None,
            sessions: vec!["lab".to_owned()],
            used_bytes: 8 << 20,
            budget_bytes: 16 << 30,
            rings: vec![ring],
            caches: vec![cache],
            trouble: None,
        };
        Rates { seconds: 1.0, arenas: vec![arena] }
    }

    fn drawn(rates: &Rates, first: u16, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(rates, first, frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect()
    }

    #[test]
    fn a_screen_has_rings_readers_and_caches() {
        let rows = drawn(&rates(), 0, 100, 9);
        assert!(rows[0].starts_with("ndshare top, over 1.0 s"));
        assert_eq!(rows[1], "ARENA e013bb9f62ff187b session \"lab\"  8 MiB of 16 GiB");
        let words = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&rows[3]), ["camera", "30.0", "0.115", "1234", "6"]);
        assert_eq!(rows[4], "    writer 14518 grab");
        assert_eq!(rows[5], "    reader 14702 view?er: every, lag 8, missed 3");
        assert_eq!(rows[6], "    reader not used yet (dead): every, lag 0, missed 3");
        assert!(rows[8].contains("tt… ") && rows[8].contains(" 98.1 %") && rows[8].ends_with("7 of 1 GiB"));
    }

    #[test]
    fn the_newest_note_has_a_line() {
        let mut rates = rates();
        let note = Note::text("out of focus");
        rates.arenas[0].rings[0].note = Some(SeenNote { len_bytes: 12, note: Some(note) });
        assert_eq!(drawn(&rates, 0, 100, 9)[4], "    note: text of 12 bytes: out of focus");
        rates.arenas[0].rings[0].note = Some(SeenNote { len_bytes: 5000, note: None });
        assert_eq!(drawn(&rates, 0, 100, 9)[4], "    note: 5000 bytes");
    }

    #[test]
    fn any_size_of_terminal_and_any_place_in_it_can_be_drawn() {
        for (width, height) in [(1, 1), (3, 1), (1, 40), (500, 200), (80, 2)] {
            for first in [0, 5, u16::MAX] {
                assert_eq!(drawn(&rates(), first, width, height).len(), usize::from(height));
            }
        }
        assert_eq!(drawn(&rates(), 1, 100, 2)[1].split_whitespace().next(), Some("RING"), "it is scrolled");
        assert_eq!(drawn(&Rates { seconds: 0.0, arenas: Vec::new() }, 0, 20, 2)[1], "no arenas");
    }
}
