//! What `/proc` says of arenas: which processes map which, and how much memory it has.
//!
//! Nothing here opens or joins an arena, so looking costs it no slot and changes nothing. This process itself is not seen:
//! in Python it may have a session of its own.
//! A process that ends while we read it is simply left out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ndshare::arena::Locator;

/// How an arena's memory appears in `/proc/<pid>/maps` and behind `/proc/<pid>/fd/<n>`.
const NAME_PREFIX: &str = "/memfd:ndshare:";

/// How the file of its data appears, where those have one of their own.
const DATA_PREFIX: &str = "/memfd:ndshare-data:";

/// Bytes that one unit of `st_blocks` stands for.
const STAT_BLOCK_BYTES: u64 = 512;

/// One arena as `/proc` shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The 16 hex digits that name the arena.
    pub(crate) id: String,
    /// Its processes, in order of their pids.
    pub(crate) processes: Vec<Process>,
    /// Bytes of memory behind it, or `None` where no descriptor of it could be looked at.
    pub(crate) committed_bytes: Option<u64>,
    /// A process that has it open, and under which descriptor.
    pub(crate) descriptor: Option<(u32, i32)>,
}

impl Seen {
    /// Where it can be looked at.
    pub(crate) fn locator(&self) -> Option<Locator> {
        let (pid, fd) = self.descriptor?;
        Some(Locator { id: u64::from_str_radix(&self.id, 16).ok()?, pid, fd, is_readonly: false })
    }
}

/// A process that maps an arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
}

/// An arena is told by its name and its inode; the name alone could be forged by anybody.
type Key = (String, u64);

/// Every arena that a process we may look at maps, in order of their ids.
pub(crate) fn arenas(proc_dir: &Path) -> std::io::Result<Vec<Seen>> {
    let mut found: BTreeMap<Key, Seen> = BTreeMap::new();
    for pid in pids(proc_dir)?.into_iter().filter(|&pid| pid != std::process::id()) {
        let dir = proc_dir.join(pid.to_string());
        let Ok(maps) = fs::read_to_string(dir.join("maps")) else { continue };
        for key in mapped(&maps) {
            let seen = found.entry(key.clone()).or_insert_with(|| Seen {
                id: key.0.clone(),
                processes: Vec::new(),
                committed_bytes: None,
                descriptor: None,
            });
            seen.processes.push(Process { pid, name: process_name(&dir) });
            if seen.committed_bytes.is_none()
                && let Some((fd, bytes)) = opened(&dir, &key)
            {
                (seen.committed_bytes, seen.descriptor) = (Some(bytes), Some((pid, fd)));
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The numbered directories of `/proc`, ascending.
fn pids(proc_dir: &Path) -> std::io::Result<Vec<u32>> {
    let entries = fs::read_dir(proc_dir)?;
    let mut pids: Vec<u32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The arenas named in the text of a `maps` file, each once.
fn mapped(maps: &str) -> Vec<Key> {
    let mut keys: Vec<Key> = maps.lines().filter_map(arena_of_line).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// The arena of one line of `maps`: `start-end perms offset dev inode  /memfd:ndshare:<id> (deleted)`.
fn arena_of_line(line: &str) -> Option<Key> {
    let (head, name) = line.split_at(line.find(NAME_PREFIX)?);
    let id = arena_id(name)?;
    let inode = head.split_whitespace().nth(4)?.parse().ok()?;
    Some((id.to_owned(), inode))
}

/// The id in `/memfd:ndshare:<16 hex digits>`, whatever follows it.
fn arena_id(name: &str) -> Option<&str> {
    let id = name.strip_prefix(NAME_PREFIX)?.split(' ').next()?;
    (id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// A descriptor of an arena in a process, and the memory behind it and behind the file of its data, if that is another one.
fn opened(process_dir: &Path, (id, inode): &Key) -> Option<(i32, u64)> {
    let (mut found, mut data_bytes) = (None, None);
    for entry in fs::read_dir(process_dir.join("fd")).ok()?.flatten() {
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let (Some(link), Ok(facts)) = (link.to_str(), fs::metadata(entry.path())) else { continue };
        let bytes = facts.blocks() * STAT_BLOCK_BYTES;
        if link.starts_with(NAME_PREFIX) && facts.ino() == *inode {
            found = found.or_else(|| Some((entry.file_name().to_str()?.parse().ok()?, bytes)));
        } else if link.strip_prefix(DATA_PREFIX).is_some_and(|rest| rest.starts_with(id)) {
            data_bytes = Some(bytes);
        }
    }
    found.map(|(fd, bytes)| (fd, bytes + data_bytes.unwrap_or(0)))
}

/// The short name of a process, or `?` when it has just ended.
fn process_name(process_dir: &Path) -> String {
    fs::read_to_string(process_dir.join("comm")).map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0-55d1 r--p 00000000 fe:00 1234 /usr/bin/python3
7f00-7f01 rw-s 00000000 00:01 42 /memfd:ndshare:0123456789abcdef (deleted)
7f01-7f02 rw-s 00001000 00:01 42 /memfd:ndshare:0123456789abcdef (deleted)
7f02-7f03 rw-s 00000000 00:01 43 /memfd:ndshare:fedcba9876543210 (deleted)
7f03-7f04 rw-s 00000000 00:01 44 /memfd:ndshare:short (deleted)
7f04-7f05 rw-s 00000000 00:01 45 /memfd:other (deleted)
7f05-7f06 rw-p 00000000 00:00 0
";

    #[test]
    fn maps_name_each_arena_once() {
        let expected = vec![("0123456789abcdef".to_owned(), 42), ("fedcba9876543210".to_owned(), 43)];
        assert_eq!(mapped(MAPS), expected);
    }

    #[test]
    fn an_id_is_sixteen_hex_digits() {
        assert_eq!(arena_id("/memfd:ndshare:0123456789abcdef (deleted)"), Some("0123456789abcdef"));
        assert_eq!(arena_id("/memfd:ndshare:0123456789abcdeg (deleted)"), None);
        assert_eq!(arena_id("/memfd:ndshare:0123 (deleted)"), None);
        assert_eq!(arena_id("/memfd:elsewhere"), None);
    }

    #[test]
    fn a_made_up_proc_is_read_whole() {
        let root = std::env::temp_dir().join(format!("ndshare-cli-proc-{}", std::process::id()));
        for (pid, name) in [("7", "camera"), ("30", "worker"), ("100", "shell")] {
            let dir = root.join(pid);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("comm"), format!("{name}\n")).unwrap();
            fs::write(dir.join("maps"), if pid == "100" { "" } else { MAPS }).unwrap();
        }
        fs::create_dir_all(root.join("sys")).unwrap();
        let found = arenas(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();

        let processes =
            vec![Process { pid: 7, name: "camera".to_owned() }, Process { pid: 30, name: "worker".to_owned() }];
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].id, "0123456789abcdef");
        assert_eq!(found[0].processes, processes);
        assert_eq!(found[1].processes, processes);
    }

    #[test]
    fn a_proc_that_is_not_there_is_an_error() {
        assert!(arenas(Path::new("/nonexistent/proc")).is_err());
    }
}
