//! What `/proc` tells of a process, for errors and reports.

/// One process, as a report names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glimpse {
    /// Its process id, as this process sees it.
    pub pid: u32,
    /// Its name, at most 15 bytes; empty when `/proc` does not tell.
    pub name: String,
    /// Whether it is stopped, by a signal or by a debugger.
    pub is_stopped: bool,
}

impl Glimpse {
    /// Looks at a process.
    pub fn of(pid: u32) -> Self {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Self { pid, name: name.trim_end().to_owned(), is_stopped: is_stopped(&stat) }
    }
}

impl std::fmt::Display for Glimpse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.name.is_empty() { "name unknown" } else { &self.name };
        let stopped = if self.is_stopped { ", stopped" } else { "" };
        write!(f, "pid {} ({name}{stopped})", self.pid)
    }
}

/// `pid (name) state …`; the name may hold anything, also a parenthesis.
fn is_stopped(stat: &str) -> bool {
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_the_name_whatever_that_is() {
        assert!(is_stopped("12 (a) R (b) T 1 12") && is_stopped("1 (x) t 0"));
        assert!(!is_stopped("12 (T) S 1 12") && !is_stopped("12 (a") && !is_stopped(""));
    }

    #[test]
    fn a_process_is_named_and_one_that_is_none_has_its_number() {
        let me = Glimpse::of(std::process::id());
        assert!(!me.name.is_empty() && !me.is_stopped);
        assert_eq!(me.to_string(), format!("pid {} ({})", me.pid, me.name));
        assert_eq!(Glimpse::of(0).to_string(), "pid 0 (name unknown)");
    }
}
