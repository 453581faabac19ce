//! `ndshare doctor`: is this machine fit for arenas, and what would make it fitter.
//!
//! Each check looks at one thing and gives one finding. The last one makes a small arena, so that what the
//! other checks cannot foresee is found too.

use std::fmt;
use std::fs;
use std::io::Write;

use ndshare::arena::{Arena, Deadline, Options};
use ndshare::layout::{human, parse_size};
use ndshare::os::directory::Directory;
use ndshare::os::limits;
use serde_json::{Value, json};

use crate::Outcome;

/// The first kernel whose `MADV_COLLAPSE` makes huge pages when memory is committed.
const COLLAPSE_KERNEL: (u32, u32) = (6, 1);

/// The first kernel that the library supports.
const OLDEST_KERNEL: (u32, u32) = (5, 16);

/// A process needs a few descriptors for arenas, and the rest for itself.
const FEWEST_OPEN_FILES: u64 = 64;

/// Below this much free memory hardly any array fits.
const LEAST_ROOM_BYTES: u64 = 256 << 20;

/// The size of the arena that is tried, and of the one block in it.
const TRIAL_BUDGET_BYTES: u64 = 64 << 20;
const TRIAL_BLOCK_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It works, but slower or with less memory than it could.
    Limited,
    /// Arenas do not work here.
    Broken,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Limited => "limited",
            Self::Broken => "broken",
        }
    }
}

/// What one check found.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    subject: &'static str,
    found: String,
    /// What to do about it; empty when there is nothing to do.
    advice: &'static str,
}

impl Finding {
    fn good(subject: &'static str, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Good, subject, found: found.into(), advice: "" }
    }

    fn limited(subject: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { verdict: Verdict::Limited, subject, found: found.into(), advice }
    }

    fn broken(subject: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { verdict: Verdict::Broken, subject, found: found.into(), advice }
    }

    fn value(&self) -> Value {
        let advice = Some(self.advice).filter(|advice| !advice.is_empty());
        json!({ "verdict": self.verdict.name(), "subject": self.subject, "found": self.found, "advice": advice })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<14} {}", self.verdict.name(), self.subject, self.found)?;
        if !self.advice.is_empty() {
            write!(f, "\n{:24}{}", "", self.advice)?;
        }
        Ok(())
    }
}

/// Print the findings. Not well when something is broken.
pub(crate) fn run(is_json: bool, out: &mut dyn Write) -> Outcome {
    let findings = examine();
    if is_json {
        writeln!(out, "{:#}", Value::from_iter(findings.iter().map(Finding::value)))?;
    } else {
        findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?;
    }
    Ok(findings.iter().all(|finding| finding.verdict != Verdict::Broken))
}

fn examine() -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![
        kernel(release.trim()),
        proc_files(fs::read_dir("/proc/self/fd").is_ok()),
        page_size(ndshare::os::page_size_is_supported()),
        memory(&limits::memory_limit(), &limits::room()),
        file_size(limits::file_size_limit()),
        address_space(limits::address_space_limit()),
        open_files(limits::open_files_limit()),
        budget(std::env::var("NDSHARE_BUDGET").ok().as_deref()),
    ];
    findings.push(registry(Directory::find().map(|found| found.map(|found| found.path().display().to_string()))));
    findings.extend(trial());
    findings
}

fn kernel(release: &str) -> Finding {
    const SUBJECT: &str = "kernel";
    match version(release) {
        None => Finding::limited(SUBJECT, format!("unknown: {release:?}"), "mount /proc to tell"),
        Some(found) if found < OLDEST_KERNEL => {
            Finding::broken(SUBJECT, format!("Linux {release}"), "upgrade to Linux 5.16 or later")
        }
        Some(found) if found < COLLAPSE_KERNEL => {
            let advice = "upgrade to Linux 6.1 or later for huge pages; without them first use of memory is slower";
            Finding::limited(SUBJECT, format!("Linux {release}"), advice)
        }
        Some(_) => Finding::good(SUBJECT, format!("Linux {release}")),
    }
}

/// The first two numbers of a kernel's release, such as `6.18.44-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn proc_files(readable: bool) -> Finding {
    if readable {
        return Finding::good("/proc", "mounted; processes can find each other's arenas");
    }
    Finding::broken("/proc", "/proc/self/fd can't be read", "mount /proc; processes join an arena through it")
}

fn page_size(supported: bool) -> Finding {
    if supported {
        return Finding::good("page size", "4 KiB");
    }
    Finding::broken("page size", "not 4 KiB", "use a kernel with pages of 4 KiB")
}

fn memory(limit: &limits::Room, room: &limits::Room) -> Finding {
    let found = format!("{} in all, {} to be had now, by {}", human(limit.bytes), human(room.bytes), room.limit);
    if room.bytes >= LEAST_ROOM_BYTES {
        return Finding::good("memory", found);
    }
    Finding::limited("memory", found, "end other programs, or raise the limit; arrays beyond it raise ArenaFull")
}

fn file_size(limit: Option<u64>) -> Finding {
    at_most("file size", limit, "`ulimit -f unlimited`, or arenas are bounded by it")
}

fn address_space(limit: Option<u64>) -> Finding {
    at_most("address space", limit, "`ulimit -v unlimited`, or arenas are bounded by it")
}

fn at_most(subject: &'static str, limit: Option<u64>, advice: &'static str) -> Finding {
    match limit {
        None => Finding::good(subject, "unlimited"),
        Some(bytes) => Finding::limited(subject, format!("at most {}", human(bytes)), advice),
    }
}

fn open_files(limit: u64) -> Finding {
    if limit == u64::MAX {
        return Finding::good("open files", "unlimited");
    }
    let found = format!("at most {limit}");
    if limit >= FEWEST_OPEN_FILES {
        return Finding::good("open files", found);
    }
    Finding::limited("open files", found, "`ulimit -n 1024`; joining an arena takes a few descriptors")
}

fn budget(variable: Option<&str>) -> Finding {
    const SUBJECT: &str = "NDSHARE_BUDGET";
    match variable.map(|text| (text, parse_size(text))) {
        None => Finding::good(SUBJECT, "not set; the session may use three quarters of the memory"),
        Some((_, Ok(bytes))) => Finding::good(SUBJECT, human(bytes)),
        Some((text, Err(_))) => {
            Finding::broken(SUBJECT, format!("{text:?} is no size"), "write a size such as \"8 GiB\", or unset it")
        }
    }
}

fn registry(found: ndshare::Result<Option<String>>) -> Finding {
    const SUBJECT: &str = "names";
    match found {
        Ok(Some(path)) => Finding::good(SUBJECT, format!("in {path}")),
        Ok(None) => Finding::good(SUBJECT, "none yet"),
        Err(error) => {
            let advice =
                "remove what is there, or set XDG_RUNTIME_DIR to a directory of mode 0700; without it no names work";
            Finding::limited(SUBJECT, error.to_string(), advice)
        }
    }
}

/// Make a small arena and a block in it, and look at the pages that it got.
fn trial() -> Vec<Finding> {
    let deadline = Deadline::never();
    let options = Options { budget_bytes: Some(TRIAL_BUDGET_BYTES), ..Options::default() };
    let made = Arena::create(&options).and_then(|arena| {
        let block = arena.alloc(TRIAL_BLOCK_BYTES, 64, false, &deadline)?;
        Ok((arena, block))
    });
    match made {
        Ok((arena, _block)) => {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
            let name = format!("/memfd:ndshare:{:016x}", arena.id());
            vec![Finding::good("trial", "an arena and a block were made"), huge_pages(huge_bytes(&smaps, &name))]
        }
        Err(error) => {
            vec![Finding::broken("trial", error.to_string(), "mend what is limited or broken above, and try again")]
        }
    }
}

fn huge_pages(bytes: u64) -> Finding {
    if bytes > 0 {
        return Finding::good("huge pages", "to be had for arenas");
    }
    let advice = "Linux 6.1 with transparent huge pages gives them; without them first use of memory is slower";
    Finding::limited("huge pages", "none; the trial got pages of 4 KiB", advice)
}

/// The bytes that the mappings of this name hold in huge pages, from the text of `smaps`.
fn huge_bytes(smaps: &str, name: &str) -> u64 {
    let mut inside = false;
    let mut kibibytes = 0;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("ShmemPmdMapped:" | "FilePmdMapped:") if inside => {
                kibibytes += words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            }
            Some(first) if !first.ends_with(':') => inside = line.contains(name),
            _ => {}
        }
    }
    kibibytes * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        assert_eq!(kernel("6.18.44-generic").verdict, Verdict::Good);
        assert_eq!(kernel("6.1.0").verdict, Verdict::Good);
        assert_eq!(kernel("6.0.9").verdict, Verdict::Limited);
        assert_eq!(kernel("5.16.0").verdict, Verdict::Limited);
        assert_eq!(kernel("5.15.153.1-microsoft").verdict, Verdict::Broken);
        assert_eq!(kernel("").verdict, Verdict::Limited);
    }

    #[test]
    fn limits_are_told_with_advice() {
        assert_eq!(file_size(None).verdict, Verdict::Good);
        let finding = address_space(Some(3 << 30));
        assert_eq!(finding.verdict, Verdict::Limited);
        assert!(finding.to_string().contains("3 GiB"), "{finding}");
        assert!(finding.to_string().contains("ulimit -v"), "{finding}");
        assert_eq!(open_files(16).verdict, Verdict::Limited);
        assert_eq!(open_files(64).verdict, Verdict::Good);
    }

    #[test]
    fn little_room_is_told() {
        let of = |bytes| limits::Room { bytes, limit: "a limit".to_owned() };
        assert_eq!(memory(&of(1 << 34), &of(1 << 33)).verdict, Verdict::Good);
        assert_eq!(memory(&of(1 << 34), &of(1 << 20)).verdict, Verdict::Limited);
    }

    #[test]
    fn a_budget_must_be_a_size() {
        assert_eq!(budget(None).verdict, Verdict::Good);
        assert_eq!(budget(Some("8 GiB")).verdict, Verdict::Good);
        assert_eq!(budget(Some("plenty")).verdict, Verdict::Broken);
    }

    #[test]
    fn a_registry_that_is_not_trusted_is_told() {
        assert_eq!(registry(Ok(None)).verdict, Verdict::Good);
        let finding = registry(Err("a trap".parse::<ndshare::Element>().unwrap_err()));
        assert_eq!(finding.verdict, Verdict::Limited);
        assert!(finding.value()["found"].as_str().unwrap().contains("a trap"));
        assert!(finding.value()["advice"].as_str().unwrap().contains("0700"));
        assert!(Finding::good("x", "y").value()["advice"].is_null());
    }

    #[test]
    fn huge_pages_are_counted_for_one_name() {
        let smaps = "\
7f00-7f01 rw-s 00000000 00:01 42     /memfd:ndshare:0123456789abcdef (deleted)
Size:               8192 kB
ShmemPmdMapped:     4096 kB
FilePmdMapped:         0 kB
VmFlags: rd wr sh
7f02-7f03 rw-s 00000000 00:01 43     /memfd:other (deleted)
ShmemPmdMapped:     2048 kB
";
        assert_eq!(huge_bytes(smaps, "/memfd:ndshare:0123456789abcdef"), 4 << 20);
        assert_eq!(huge_bytes(smaps, "/memfd:nobody"), 0);
        assert_eq!(huge_pages(0).verdict, Verdict::Limited);
    }

    #[test]
    fn this_machine_can_be_examined() {
        let findings = examine();
        assert!(findings.iter().any(|finding| finding.subject == "trial"));
        let broken: Vec<_> = findings.iter().filter(|finding| finding.verdict == Verdict::Broken).collect();
        assert!(broken.is_empty(), "{broken:?}");
    }
}
