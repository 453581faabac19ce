//! What the machine, the cgroup and the resource limits allow, read before memory is touched.
//!
//! The kernel's own answer to "too much" is a signal or the OOM killer. Reading the limits beforehand turns that
//! into an error, except for what other programs take in between.

use super::page::PAGE_BYTES;
use super::read_kernel_text;
use crate::layout::human;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How much more memory may be touched, and what says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may still be touched.
    pub bytes: u64,
    /// The limit, named so that a person finds it.
    pub limit: String,
}

/// Left free at each limit, for page tables, the interpreter and an error message.
const RESERVE_BYTES: u64 = 16 << 20;

/// The smallest of the memory still available on the machine, in each memory cgroup above this process, and of what a
/// kernel that promises no more than it has may still promise.
pub fn room() -> Room {
    let machine = Room { bytes: available_bytes(), limit: "the machine's available memory".into() };
    let tightest = cgroups().into_iter().filter_map(|group| group.room()).chain(promised()).fold(machine, smaller);
    Room { bytes: tightest.bytes.saturating_sub(RESERVE_BYTES), ..tightest }
}

/// The smaller of the machine's memory and the cgroups' limits: all of its bytes, and what errors call the three quarters of
/// them that a new arena gets.
pub fn memory_limit() -> Room {
    let machine = Room { bytes: meminfo("MemTotal:").unwrap_or(1 << 30), limit: "three quarters of the RAM".into() };
    let limits = cgroups().into_iter().filter_map(|group| {
        let limit = "three quarters of the memory cgroup's limit".into();
        Some(Room { bytes: group.limit_bytes()?, limit })
    });
    limits.fold(machine, smaller)
}

fn smaller(a: Room, b: Room) -> Room {
    if b.bytes < a.bytes { b } else { a }
}

/// `RLIMIT_FSIZE` of this process in bytes; none when unlimited.
pub fn file_size_limit() -> Option<u64> {
    rlimit(libc::RLIMIT_FSIZE)
}

/// `RLIMIT_AS` of this process in bytes; none when unlimited.
pub fn address_space_limit() -> Option<u64> {
    rlimit(libc::RLIMIT_AS)
}

/// `RLIMIT_NOFILE` of this process.
pub fn open_files_limit() -> u64 {
    rlimit(libc::RLIMIT_NOFILE).unwrap_or(u64::MAX)
}

fn rlimit(which: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live struct of this frame, which the call fills.
    let failed = unsafe { libc::getrlimit(which, &mut limit) } != 0;
    (!failed && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The address space that this process has mapped, in bytes.
pub fn mapped_bytes() -> u64 {
    let pages = read_kernel_text("/proc/self/statm").ok().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

/// What the kernel may still promise; none where it promises without counting.
fn promised() -> Option<Room> {
    let left = || Some(meminfo("CommitLimit:")?.saturating_sub(meminfo("Committed_AS:")?));
    let limit = format!("the machine's CommitLimit ({STRICT})");
    promises_are_counted().then(left).flatten().map(|bytes| Room { bytes, limit })
}

/// Whether the kernel promises no more memory than it has.
pub fn promises_are_counted() -> bool {
    read_kernel_text("/proc/sys/vm/overcommit_memory").is_ok_and(|text| text.trim() == "2")
}

/// How errors name that.
pub const STRICT: &str = "vm.overcommit_memory is 2";

fn available_bytes() -> u64 {
    meminfo("MemAvailable:").unwrap_or(u64::MAX)
}

fn meminfo(key: &str) -> Option<u64> {
    let text = read_kernel_text("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// One memory cgroup of either version, by its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cgroup {
    dir: PathBuf,
    version: u8,
}

impl Cgroup {
    fn number(&self, name: &str) -> Option<u64> {
        read_kernel_text(self.dir.join(name)).ok()?.trim().parse().ok()
    }

    /// None when unlimited ("max" in version 2, nearly 2^63 in version 1).
    fn limit_bytes(&self) -> Option<u64> {
        let name = if self.version == 1 { "memory.limit_in_bytes" } else { "memory.max" };
        self.number(name).filter(|&bytes| bytes < 1 << 62)
    }

    fn room(&self) -> Option<Room> {
        let limit = self.limit_bytes()?;
        let usage = if self.version == 1 { "memory.usage_in_bytes" } else { "memory.current" };
        let used = self.number(usage)?.saturating_sub(self.reclaimable_bytes());
        let named = format!("the limit of the memory cgroup {} ({})", self.dir.display(), human(limit));
        Some(Room { bytes: limit.saturating_sub(used), limit: named })
    }

    /// File pages, which the kernel drops before it kills anybody. Shared memory is not among them.
    fn reclaimable_bytes(&self) -> u64 {
        let names = if self.version == 1 {
            ["total_inactive_file", "total_active_file"]
        } else {
            ["inactive_file", "active_file"]
        };
        let text = read_kernel_text(self.dir.join("memory.stat")).unwrap_or_default();
        let value = |line: &str| {
            let (name, bytes) = line.split_once(' ')?;
            names.contains(&name).then(|| bytes.trim().parse::<u64>().ok())?
        };
        text.lines().filter_map(value).sum()
    }
}

/// Where the memory controller is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    root: PathBuf,
    point: PathBuf,
    version: u8,
}

/// The memory cgroups of this process, from its own up to the root of the hierarchy.
fn cgroups() -> Vec<Cgroup> {
    static MOUNTS: OnceLock<Vec<Mount>> = OnceLock::new();
    let mounts = MOUNTS.get_or_init(|| parse_mounts(&read_kernel_text("/proc/self/mountinfo").unwrap_or_default()));
    let own = read_kernel_text("/proc/self/cgroup").unwrap_or_default();
    mounts.iter().flat_map(|mount| ancestry(mount, &own)).collect()
}

fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let kind = back.next()?;
    let options = back.nth(1)?;
    let version = match kind {
        "cgroup2" => 2,
        "cgroup" if options.split(',').any(|option| option == "memory") => 1,
        _ => return None,
    };
    let mut front = front.split(' ').skip(3);
    Some(Mount { root: front.next()?.into(), point: front.next()?.into(), version })
}

fn ancestry(mount: &Mount, own: &str) -> Vec<Cgroup> {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let mine = match mount.version {
            1 => controllers.split(',').any(|c| c == "memory"),
            _ => controllers.is_empty(),
        };
        mine.then_some(path)
    });
    let relative = path.map_or(Path::new(""), |p| Path::new(p).strip_prefix(&mount.root).unwrap_or(Path::new("")));
    // In a container the path may belong to the host's view; the mount's own root is then the group.
    let mut dir = mount.point.join(relative.strip_prefix("/").unwrap_or(relative));
    if !dir.exists() {
        dir.clone_from(&mount.point);
    }
    let inside = dir.ancestors().take_while(|dir| dir.starts_with(&mount.point));
    inside.map(|dir| Cgroup { dir: dir.to_path_buf(), version: mount.version }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
36 25 0:32 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory
37 25 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
38 25 0:34 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn mounts_of_both_versions_are_found() {
        let mounts = parse_mounts(MOUNTS);
        assert_eq!(mounts.iter().map(|m| m.version).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(mounts[0].point, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn a_path_outside_the_mount_falls_back_to_its_root() {
        let mount = Mount { root: "/".into(), point: "/proc".into(), version: 1 };
        let groups = ancestry(&mount, "8:memory:/no/such/place\n0::/\n");
        assert_eq!(groups, [Cgroup { dir: "/proc".into(), version: 1 }]);
        let groups = ancestry(&mount, "8:memory:/self\n");
        assert_eq!(groups.len(), 2);
    }

    #[test]
    fn there_is_room_on_this_machine() {
        assert!(room().bytes > 0);
        assert!(memory_limit().bytes > RESERVE_BYTES);
        assert!(mapped_bytes() > 0);
    }

    #[test]
    fn a_group_at_its_limit_has_no_room() {
        let dir = std::env::temp_dir().join(format!("ndshare-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("memory.max", "1048576\n");
        write("memory.current", "1048000\n");
        write("memory.stat", "anon 5\ninactive_file 1000\nactive_file 24\n");
        let group = Cgroup { dir: dir.clone(), version: 2 };
        assert_eq!(group.room().unwrap().bytes, 1_048_576 - (1_048_000 - 1024));
        write("memory.max", "max\n");
        assert_eq!(group.room(), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
