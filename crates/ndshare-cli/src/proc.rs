//! What `/proc` says of arenas: which processes map which, and how much memory it has.
//!
//! An arena in memory is told by the name of its file. One on a path is a file like others: of those that a process has
//! mapped, the first bytes say what it is. Nothing here joins an arena, so looking costs it no slot and changes nothing. This process itself is not seen:
//! in Python it may have a session of its own.
//! A process that ends while we read it is simply left out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ndshare::arena::{self, Locator, Look};
use ndshare::error::Error;
use serde_json::Value;

use crate::text::printable;

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
    /// Where its file is, if that has a path.
    pub(crate) place: Option<Place>,
}

/// The path of an arena's file, as its process has opened it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// Whether this name of the file was taken away.
    pub(crate) is_deleted: bool,
    /// Device and inode.
    file: (u64, u64),
}

impl Seen {
    /// The arena in the file at `path`, and those of its processes that are among `all`; whether or not anybody has it.
    pub(crate) fn at_path(path: &Path, all: &[Self]) -> Result<Self, String> {
        let look = Look::at_path(path).map_err(|error| error.to_string())?;
        let facts = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file = (facts.dev(), facts.ino());
        let same = all.iter().find(|seen| seen.place.as_ref().is_some_and(|place| place.file == file));
        Ok(Self {
            id: format!("{:016x}", look.id()),
            processes: same.map(|seen| seen.processes.clone()).unwrap_or_default(),
            committed_bytes: Some(look.committed_bytes()),
            descriptor: None,
            place: Some(Place { path: path.to_owned(), is_deleted: false, file }),
        })
    }

    /// The id as a number.
    pub(crate) fn number(&self) -> Option<u64> {
        u64::from_str_radix(&self.id, 16).ok()
    }

    /// A look at it, through a process that has it open, or by its path.
    pub(crate) fn look(&self) -> Result<Look, String> {
        let looked = match (self.number().zip(self.descriptor), &self.place) {
            (Some((id, (pid, fd))), _) => Look::at(&Locator { id, pid, fd, is_readonly: false }),
            (None, Some(place)) if !place.is_deleted => Look::at_path(&place.path),
            _ => return Err("no descriptor of it can be seen".to_owned()),
        };
        looked.map_err(|error| Self::not_looked(&error))
    }

    fn not_looked(error: &Error) -> String {
        match error {
            Error::Foreign(foreign) => {
                let uid = foreign.uid.map_or_else(|| "?".to_owned(), |uid| uid.to_string());
                format!(
                    "it is user {uid}'s, and nobody else may look into it, not even root: run ndshare as that user, \
                     sudo -u '#{uid}' ndshare"
                )
            }
            _ => error.to_string(),
        }
    }
}

/// What stands behind the id of an arena: where it is, if that is a file with a path, and its sessions.
pub(crate) fn told_of(place: Option<&Place>, sessions: &[String]) -> String {
    let sessions = sessions.iter().map(|name| format!(" session {:?}", printable(name)));
    place.map(|place| format!(" {place}")).into_iter().chain(sessions).collect()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deleted = if self.is_deleted { " (deleted)" } else { "" };
        write!(f, "file {:?}{deleted}", printable(&self.path.display().to_string()))
    }
}

/// The path of an arena's file, or null.
pub(crate) fn path_value(place: Option<&Place>) -> Value {
    place.map_or(Value::Null, |place| place.path.to_string_lossy().into())
}

/// A process that maps an arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
}

/// An arena is told by its id and its inode; the id alone could be forged by anybody.
type Key = (String, u64);

/// Every arena that a process we may look at maps, in order of their ids.
pub(crate) fn arenas(proc_dir: &Path) -> std::io::Result<Vec<Seen>> {
    let mut found: BTreeMap<Key, Seen> = BTreeMap::new();
    for pid in pids(proc_dir)?.into_iter().filter(|&pid| pid != std::process::id()) {
        let dir = proc_dir.join(pid.to_string());
        // A mapped file may have any bytes in its name.
        let Ok(maps) = fs::read(dir.join("maps")).map(|maps| String::from_utf8_lossy(&maps).into_owned()) else {
            continue;
        };
        let in_memory = mapped(&maps).into_iter().map(|key| (key.clone(), None, opened(&dir, &key)));
        for (key, place, descriptor) in in_memory.chain(lasting(&dir, &maps)) {
            let seen = found.entry(key.clone()).or_insert_with(|| Seen {
                id: key.0.clone(),
                processes: Vec::new(),
                committed_bytes: None,
                descriptor: None,
                place: None,
            });
            seen.processes.push(Process { pid, name: process_name(&dir) });
            seen.place = seen.place.take().filter(|place| !place.is_deleted).or(place);
            if let Some((fd, bytes)) = descriptor.filter(|_| seen.descriptor.is_none()) {
                (seen.committed_bytes, seen.descriptor) = (Some(bytes), Some((pid, fd)));
            }
        }
    }
    Ok(found.into_values().collect())
}

/// A descriptor, and the memory behind its file.
type Opened = (i32, u64);

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
fn opened(process_dir: &Path, (id, inode): &Key) -> Option<Opened> {
    let is_data =
        |target: &Path| target.to_string_lossy().strip_prefix(DATA_PREFIX).is_some_and(|it| it.starts_with(id));
    let is_arena = |target: &Path| target.to_string_lossy().starts_with(NAME_PREFIX) || is_data(target);
    let (data, own): (Vec<_>, Vec<_>) = descriptors(process_dir, &is_arena).partition(|one| is_data(&one.target));
    let own = own.into_iter().find(|one| one.facts.ino() == *inode)?;
    let blocks = own.facts.blocks() + data.first().map_or(0, |one| one.facts.blocks());
    Some((own.fd, blocks * STAT_BLOCK_BYTES))
}

/// An open file of a process.
struct Descriptor {
    fd: i32,
    target: PathBuf,
    facts: fs::Metadata,
    link: PathBuf,
}

/// The open files of a process whose links lead where `is_meant` says.
fn descriptors<'a>(
    process_dir: &Path,
    is_meant: &'a dyn Fn(&Path) -> bool,
) -> impl Iterator<Item = Descriptor> + use<'a> {
    fs::read_dir(process_dir.join("fd")).into_iter().flatten().flatten().filter_map(move |entry| {
        let link = entry.path();
        let target = fs::read_link(&link).ok().filter(|target| is_meant(target))?;
        Some(Descriptor {
            fd: entry.file_name().to_str()?.parse().ok()?,
            target,
            facts: fs::metadata(&link).ok()?,
            link,
        })
    })
}

/// The arenas on a path that a process has, each once: by its descriptors, or by its paths where it has closed them.
fn lasting(process_dir: &Path, maps: &str) -> Vec<(Key, Option<Place>, Option<Opened>)> {
    let mapped: Vec<(u64, &str)> = maps.lines().filter_map(shared_file).collect();
    if mapped.is_empty() {
        return Vec::new();
    }
    let is_file = |target: &Path| target.is_absolute() && !target.starts_with("/proc") && !is_memfd(target);
    let mut found: Vec<(Key, Option<Place>, Option<Opened>)> = Vec::new();
    let mut add = |facts: &fs::Metadata, link: &Path, target: &Path, fd: Option<i32>| {
        let is_new = |inode: u64| mapped.iter().any(|one| one.0 == inode) && found.iter().all(|one| one.0.1 != inode);
        let Some(id) = Some(facts).filter(|it| it.is_file() && is_new(it.ino())).and_then(|_| arena::id_of_file(link))
        else {
            return;
        };
        let place = Place::of(target, (facts.dev(), facts.ino()));
        let descriptor = fd.map(|fd| (fd, facts.blocks() * STAT_BLOCK_BYTES));
        found.push(((format!("{id:016x}"), facts.ino()), Some(place), descriptor));
    };
    descriptors(process_dir, &is_file).for_each(|one| add(&one.facts, &one.link, &one.target, Some(one.fd)));
    for &(inode, path) in &mapped {
        // As the process sees it, which may be in a container.
        let link = process_dir.join("root").join(path.trim_start_matches('/'));
        if let Some(facts) = fs::symlink_metadata(&link).ok().filter(|facts| facts.ino() == inode) {
            add(&facts, &link, Path::new(path), None);
        }
    }
    found
}

fn is_memfd(target: &Path) -> bool {
    target.to_string_lossy().starts_with("/memfd:")
}

/// The inode and the path of a shared mapping of a file that has one. Devices are not compared: on some file systems `maps`
/// tells another one than `stat`.
fn shared_file(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_whitespace();
    let (permissions, inode) = (words.nth(1)?, words.nth(2)?.parse().ok()?);
    let path = &line[line.find('/')?..];
    (permissions.ends_with('s') && inode != 0 && !path.starts_with("/memfd:")).then_some((inode, path))
}

impl Place {
    /// The end of a link of `/proc`, which says behind the path when that name is gone.
    fn of(target: &Path, file: (u64, u64)) -> Self {
        let text = target.as_os_str().as_bytes().strip_suffix(b" (deleted)").filter(|_| !target.exists());
        let path = text.map_or(target, |text| Path::new(OsStr::from_bytes(text)));
        Self { path: path.to_owned(), is_deleted: text.is_some(), file }
    }
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
    fn a_shared_file_is_told_from_private_ones_and_from_memory() {
        let lines = [
            "7f00-7f01 rw-s 00000000 00:21 77 /dev/shm/a b.nds",
            "7f00-7f01 rw-s 00000000 00:21 78 /mnt/a.nds (deleted)",
            "7f00-7f01 r--p 00000000 fe:00 1234 /usr/bin/python3",
            "7f00-7f01 rw-s 00000000 00:01 42 /memfd:ndshare:0123456789abcdef (deleted)",
            "7f00-7f01 rw-s 00000000 00:0e 5 anon_inode:[perf_event]",
            "7f05-7f06 rw-p 00000000 00:00 0",
        ];
        let files = [Some((77, "/dev/shm/a b.nds")), Some((78, "/mnt/a.nds (deleted)")), None, None, None, None];
        assert_eq!(lines.map(shared_file), files);
    }

    #[test]
    fn a_name_that_is_gone_is_told_from_one_that_says_so() {
        let path = std::env::temp_dir().join(format!("ndshare-cli-{} (deleted)", std::process::id()));
        let gone = Place::of(&path, (1, 2));
        assert!(gone.is_deleted && !gone.path.to_string_lossy().contains("deleted"));
        fs::write(&path, "").unwrap();
        let there = Place::of(&path, (1, 2));
        fs::remove_file(&path).unwrap();
        assert!(!there.is_deleted && there.path == path);
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
