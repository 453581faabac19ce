//! The plan of a new arena: how many bytes may be in its blocks, which limit says so, and the sizes that follow.

use super::control::{ArenaSizes, GRANULE_BYTES};
use crate::error::{ArenaFull, Error, Result};
use crate::layout::human;
use crate::os::{HUGE_BYTES, limits};
use crate::prim::Unchecked;

/// Address space for each byte of the budget, so that fragmentation is no limit.
const SPACE_FACTOR: u64 = 4;
/// Warm blocks are kept up to this, or an eighth of the budget if that is less.
const WARM_CAP_BYTES: u64 = 512 << 20;

/// What can set a budget. The header of an arena stores the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Given,
    Ram,
    Cgroup,
    FileSize,
    AddressSpace,
    Environment,
    Capacity,
}

/// All of them by their codes, with their names.
const LIMITS: [(Limit, &str); 7] = [
    (Limit::Given, "the budget given at creation"),
    (Limit::Ram, "three quarters of the RAM"),
    (Limit::Cgroup, "three quarters of the memory cgroup's limit"),
    (Limit::FileSize, "RLIMIT_FSIZE"),
    (Limit::AddressSpace, "RLIMIT_AS"),
    (Limit::Environment, "NDSHARE_BUDGET"),
    (Limit::Capacity, "the most that one arena can hold"),
];

// Each stands in the place that its code says.
const _: () = {
    let mut code = 0;
    // BOUND: the table.
    while code < LIMITS.len() {
        assert!(LIMITS[code].0 as usize == code);
        code += 1;
    }
};

impl Limit {
    /// The number that the header stores.
    pub(super) fn code(self) -> u32 {
        self as u32
    }

    /// The name in errors and reports.
    pub(super) fn name(self) -> &'static str {
        LIMITS[self as usize].1
    }

    /// The limit that a header's number stands for.
    pub(super) fn of_code(code: Unchecked) -> Option<Self> {
        code.index(LIMITS.len()).map(|code| LIMITS[code].0)
    }
}

/// What a new arena shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// How many bytes may be in blocks; none: three quarters of the smaller of RAM and the cgroup's limit.
    pub budget_bytes: Option<u64>,
    /// Whether the budget came from the environment, so that errors can say so.
    pub budget_from_environment: bool,
    /// Who else than this user may be let to read what is published of it, as permission bits: 0o640, its group; 0o604,
    /// all who are not in the group; 0o644, both. None: nobody. Only for arenas in memory.
    pub mode: Option<u32>,
}

/// # Errors
/// `InvalidValue` for permission bits by which others could do more than read, or not even that.
pub(crate) fn check_mode(mode: u32) -> Result<()> {
    match mode {
        0o640 | 0o604 | 0o644 => Ok(()),
        _ => Err(Error::value(format!(
            "expected a mode of 0o640 (the group may read), 0o604 (all others may) or 0o644 (both), got {mode:#o}: others \
             are never let to write"
        ))),
    }
}

/// The sizes of a new arena, and what set its budget.
pub(super) fn plan(options: &Options, memory: &limits::Room) -> Result<(ArenaSizes, Limit)> {
    let most = (u64::from(u32::MAX) - 1) * GRANULE_BYTES / SPACE_FACTOR / HUGE_BYTES * HUGE_BYTES;
    let (mut budget, mut limit) = match options.budget_bytes {
        Some(bytes) => (bytes, if options.budget_from_environment { Limit::Environment } else { Limit::Given }),
        None if memory.bytes / 4 * 3 > most => (most, Limit::Capacity),
        None => (memory.bytes / 4 * 3, if memory.limit == Limit::Cgroup.name() { Limit::Cgroup } else { Limit::Ram }),
    };
    if budget > most {
        return Err(Error::value(format!("expected a budget of at most {}, got {}", human(most), human(budget))));
    }
    let mut data_len = (budget * SPACE_FACTOR).next_multiple_of(HUGE_BYTES);
    let tables = ArenaSizes::FULL.total_len();
    let space = limits::address_space_limit().map(|limit| limit.saturating_sub(limits::mapped_bytes()) / 2);
    for (which, most) in [(Limit::FileSize, limits::file_size_limit()), (Limit::AddressSpace, space)] {
        let Some(most) = most else { continue };
        let room = most.saturating_sub(tables) / HUGE_BYTES * HUGE_BYTES;
        if room == 0 {
            return Err(too_small(which.name(), most, tables + HUGE_BYTES));
        }
        if room < data_len {
            data_len = room;
        }
        if room < budget {
            (budget, limit) = (room, which);
        }
    }
    if budget == 0 {
        return Err(Error::value("expected a budget of at least one byte, got 0: name one such as \"1 GiB\""));
    }
    let warm_cap = (budget / 8).min(WARM_CAP_BYTES);
    Ok((ArenaSizes { data_len, budget, warm_cap, ..ArenaSizes::FULL }, limit))
}

fn too_small(name: &str, limit: u64, need: u64) -> Error {
    let (left, smallest) = (human(limit), human(need));
    let message = format!(
        "{name} leaves {left} for an arena, and the smallest takes {smallest}: raise the limit (ulimit -f, -v)"
    );
    let (needed_bytes, free_bytes, limit) = (Some(need), Some(limit), name.to_owned());
    ArenaFull { needed_bytes, free_bytes, limit, ..ArenaFull::saying(message) }.into()
}
