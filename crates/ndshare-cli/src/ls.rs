//! `ndshare ls`: each arena, and what is in it.
//!
//! What `/proc` says of an arena, what a look from outside says of it, and what the user's registry says are put together by
//! the arena's id.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ndshare::arena::{Locator, Look, ParticipantStats, Stats, TicketStats};
use ndshare::layout::human;
use ndshare::names::{self, Listed};
use ndshare::registry::{self, ObjectKind};
use ndshare::session;
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::Ls;
use crate::proc::{self, Place, Process, Seen};
use crate::text::printable;

pub(crate) fn run(wanted: &Ls, is_json: bool, out: &mut dyn Write) -> Outcome {
    let all = proc::arenas(Path::new("/proc"))
        .map_err(|error| format!("/proc could not be read: {error}; mount it to list arenas"))?;
    let (sessions, names) = (session::listed()?, names::listed()?);
    let is_all = wanted.paths.is_empty();
    let seen = if is_all { all } else { at_paths(&wanted.paths, &all)? };
    let are_found = seen.len() == wanted.paths.len();
    let arenas: Vec<Listing> = seen.into_iter().map(|seen| Listing::of(seen, &sessions, &names)).collect();
    // Of what was asked for by its path, what is damaged is a failure.
    let is_good = is_all || are_found && arenas.iter().all(|one| one.stats.is_ok() && one.poisoned.is_none());
    let dead = names.iter().filter(|one| is_all && is_dead(one, &arenas));
    let dead: Vec<&str> = dead.map(|one| one.name.as_str()).collect();
    if is_json {
        let arenas: Vec<Value> = arenas.iter().map(Listing::value).collect();
        writeln!(out, "{:#}", json!({ "arenas": arenas, "dead_names": dead }))?;
        return Ok(is_good);
    }
    if is_all || !arenas.is_empty() {
        writeln!(out, "{}", table(&arenas))?;
    }
    for name in dead {
        writeln!(
            out,
            "{:?} names what is gone, or out of sight: ndshare rm --dead removes it if it is gone",
            printable(name)
        )?;
    }
    Ok(is_good)
}

/// The arenas at these paths; of each where there is none, the reason goes to standard error.
fn at_paths(paths: &[PathBuf], all: &[Seen]) -> io::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for path in paths {
        match Seen::at_path(path, all) {
            Ok(one) => seen.push(one),
            Err(reason) => writeln!(io::stderr(), "ndshare: {}", printable(&reason))?,
        }
    }
    Ok(seen)
}

/// Whether a published name is of no arena that was seen.
fn is_dead(one: &Listed, arenas: &[Listing]) -> bool {
    !arenas.iter().any(|arena| arena.names.iter().any(|name| name.is_published && name.name == one.name))
}

/// A name, and what it is the name of.
#[derive(Debug)]
struct Name {
    name: String,
    kind: ObjectKind,
    /// For strangers, or else within the arena.
    is_published: bool,
}

/// What is told of one arena.
#[derive(Debug)]
struct Listing {
    seen: Seen,
    sessions: Vec<String>,
    names: Vec<Name>,
    /// What a look says, or why there was none.
    stats: Result<Stats, String>,
    /// Why nobody may use it any more.
    poisoned: Option<String>,
}

impl Listing {
    fn of(seen: Seen, sessions: &[(String, Locator)], names: &[Listed]) -> Self {
        let id = seen.number();
        let is_here = |one: &Locator| Some(one.id) == id;
        let sessions = sessions.iter().filter(|(_, place)| is_here(place)).map(|(name, _)| name.clone()).collect();
        let look = seen.look();
        let (names, poisoned) = look.as_ref().map_or((Vec::new(), None), |look| {
            let published = names.iter().filter(|one| is_here(&one.locator) && is_alive(one, look)).map(published);
            let own = registry::names(look).into_iter().map(|(name, kind)| Name { name, kind, is_published: false });
            (published.chain(own).collect(), look.check().err().map(|error| error.to_string()))
        });
        let stats = look.and_then(|look| look.stats().map_err(|error| error.to_string()));
        Self { seen, sessions, names, stats, poisoned }
    }

    fn participants(&self) -> &[ParticipantStats] {
        self.stats.as_ref().map_or(&[], |stats| &stats.participants)
    }

    /// The name of a process, if it was seen.
    fn process(&self, pid: u32) -> Option<&Process> {
        self.seen.processes.iter().find(|one| one.pid == pid)
    }

    fn value(&self) -> Value {
        let holder = |one: &ParticipantStats| {
            let name = self.process(one.pid).map(|process| &process.name);
            json!({ "pid": one.pid, "name": name, "alive": one.alive, "bytes": one.bytes, "blocks": one.blocks })
        };
        let stats = self.stats.as_ref().ok();
        let name = |one: &Name| json!({ "name": one.name, "kind": one.kind.name(), "published": one.is_published });
        let process = |one: &Process| json!({ "pid": one.pid, "name": one.name });
        json!({
            "id": self.seen.id,
            "path": proc::path_value(self.seen.place.as_ref()),
            "deleted": self.seen.place.as_ref().is_some_and(|place| place.is_deleted),
            "sessions": self.sessions,
            "memory_bytes": self.seen.committed_bytes,
            "budget_bytes": stats.map(|stats| stats.budget_bytes),
            "used_bytes": stats.map(|stats| stats.used_bytes),
            "warm_bytes": stats.map(|stats| stats.warm_bytes),
            "blocks": stats.map(|stats| stats.blocks),
            "processes": self.seen.processes.iter().map(process).collect::<Vec<_>>(),
            "holders": self.participants().iter().map(holder).collect::<Vec<_>>(),
            "names": self.names.iter().map(name).collect::<Vec<_>>(),
            "undelivered": stats.map(|stats| stats.tickets.iter().map(ticket_value).collect::<Vec<_>>()),
            "poisoned": self.poisoned,
            "unreadable": self.stats.as_ref().err(),
        })
    }

    /// The lines below the row of an arena.
    fn details(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.seen.place.iter().map(Place::to_string).collect();
        lines.extend(self.sessions.iter().map(|name| format!("session {:?}", printable(name))));
        match &self.stats {
            Ok(stats) => lines.push(sum(stats)),
            Err(reason) => lines.push(format!("not looked into: {}", printable(reason))),
        }
        lines.extend(self.poisoned.iter().map(|reason| format!("unusable: {}", printable(reason))));
        let (alive, dead): (Vec<_>, Vec<_>) = self.participants().iter().partition(|one| one.alive);
        lines.extend(alive.into_iter().map(|one| self.holder(one)).chain(self.dead(&dead)));
        lines.extend(self.names.iter().map(|one| {
            let place = if one.is_published { "published" } else { "in the arena" };
            format!("{} {:?}, {place}", one.kind, printable(&one.name))
        }));
        lines.extend(self.stats.iter().flat_map(|stats| stats.tickets.iter().map(ticket)));
        lines.into_iter().map(|line| format!("  {line}")).collect()
    }

    fn holder(&self, one: &ParticipantStats) -> String {
        let name = self.process(one.pid).map_or(String::new(), |process| format!(" {}", printable(&process.name)));
        let dead = if one.alive { "" } else { " (dead)" };
        format!("process {}{name}{dead} holds {} in {}", one.pid, human(one.bytes), blocks(one.blocks))
    }

    /// One line for all that died: there may be hundreds.
    fn dead(&self, dead: &[&ParticipantStats]) -> Option<String> {
        let sum = |of: fn(&ParticipantStats) -> u64| dead.iter().map(|one| of(one)).sum::<u64>();
        match dead {
            [] => None,
            [one] => Some(self.holder(one)),
            _ => Some(format!(
                "{} processes that are dead hold {} in {}",
                dead.len(),
                human(sum(|one| one.bytes)),
                blocks(sum(|one| one.blocks.into()) as u32)
            )),
        }
    }
}

fn published(one: &Listed) -> Name {
    Name { name: one.name.clone(), kind: one.kind, is_published: true }
}

/// Whether what a published name stands for lives in the arena that is looked at.
fn is_alive(one: &Listed, look: &Look) -> bool {
    one.kind == ObjectKind::Arena || look.is_live(one.block)
}

fn sum(stats: &Stats) -> String {
    let Stats { used_bytes, budget_bytes, warm_bytes, .. } = *stats;
    let warm = if warm_bytes == 0 { String::new() } else { format!(", {} warm", human(warm_bytes)) };
    format!("{} of {} in {}{warm}", human(used_bytes), human(budget_bytes), blocks(stats.blocks))
}

fn blocks(count: u32) -> String {
    if count == 1 { "1 block".to_owned() } else { format!("{count} blocks") }
}

fn ticket(one: &TicketStats) -> String {
    let dead = if one.sender_alive { "" } else { " (dead)" };
    let to = one.receiver_pid.map_or(String::new(), |pid| format!(" to process {pid}"));
    format!("undelivered: {} from process {}{dead}{to}, {:.1} s ago", human(one.bytes), one.sender_pid, one.age_s)
}

fn ticket_value(one: &TicketStats) -> Value {
    json!({
        "bytes": one.bytes,
        "sender_pid": one.sender_pid,
        "sender_alive": one.sender_alive,
        "receiver_pid": one.receiver_pid,
        "age_s": one.age_s,
    })
}

/// The whole listing as text, without a newline at the end.
fn table(arenas: &[Listing]) -> String {
    if arenas.is_empty() {
        return "No arena is alive.".to_owned();
    }
    let mut lines = vec![format!("{:<16}  {:>10}  PROCESSES", "ARENA", "MEMORY")];
    lines.extend(arenas.iter().flat_map(|arena| std::iter::once(row(&arena.seen)).chain(arena.details())));
    lines.join("\n")
}

fn row(arena: &Seen) -> String {
    let memory = arena.committed_bytes.map_or_else(|| "?".to_owned(), human);
    let processes: Vec<String> = arena.processes.iter().map(process_text).collect();
    format!("{:<16}  {memory:>10}  {}", arena.id, processes.join(", "))
}

fn process_text(process: &Process) -> String {
    format!("{} {}", process.pid, printable(&process.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_alive_is_said_in_words() {
        assert_eq!(table(&[]), "No arena is alive.");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let process = Process { pid: 1, name: "\u{1b}[2Jx".to_owned() };
        assert_eq!(process_text(&process), "1 ?[2Jx");
    }

    #[test]
    fn a_row_names_the_arena_its_memory_and_its_processes() {
        let seen = Seen {
            id: "0123456789abcdef".to_owned(),
            processes: vec![
                Process { pid: 7, name: "camera".to_owned() },
                Process { pid: 30, name: "worker".to_owned() },
            ],
            committed_bytes: Some(3 << 20),
            descriptor: None,
            place: None,
        };
        let arena = Listing::of(seen, &[], &[]);
        let expected = "\
ARENA                 MEMORY  PROCESSES
0123456789abcdef       3 MiB  7 camera, 30 worker
  not looked into: no descriptor of it can be seen";
        assert_eq!(table(&[arena]), expected);
    }
}
