//! `ndshare ls`: a line for each arena.

use std::path::Path;
use std::process::ExitCode;

use ndshare::layout::human;

use crate::proc::{self, Process, Seen};

/// Print the arenas that live now. Processes of other users are not seen, unless we are root.
pub(crate) fn run() -> ExitCode {
    match proc::arenas(Path::new("/proc")) {
        Ok(arenas) => {
            println!("{}", table(&arenas));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ndshare: /proc could not be read: {error}; mount it to list arenas");
            ExitCode::FAILURE
        }
    }
}

/// The whole listing as text, without a newline at the end.
fn table(arenas: &[Seen]) -> String {
    if arenas.is_empty() {
        return "No arena is alive.".to_owned();
    }
    let mut lines = vec![format!("{:<16}  {:>10}  PROCESSES", "ARENA", "MEMORY")];
    lines.extend(arenas.iter().map(row));
    lines.join("\n")
}

fn row(arena: &Seen) -> String {
    let memory = arena.committed_bytes.map_or_else(|| "?".to_owned(), human);
    let processes: Vec<String> = arena.processes.iter().map(process_text).collect();
    format!("{:<16}  {memory:>10}  {}", arena.id, processes.join(", "))
}

fn process_text(process: &Process) -> String {
    // A process chooses its own name, which must not reach the terminal as a control sequence.
    let name: String = process.name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("{} {name}", process.pid)
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
        let arena = Seen {
            id: "0123456789abcdef".to_owned(),
            processes: vec![
                Process { pid: 7, name: "camera".to_owned() },
                Process { pid: 30, name: "worker".to_owned() },
            ],
            committed_bytes: Some(3 << 20),
        };
        let expected = "\
ARENA                 MEMORY  PROCESSES
0123456789abcdef       3 MiB  7 camera, 30 worker";
        assert_eq!(table(&[arena]), expected);
    }
}
