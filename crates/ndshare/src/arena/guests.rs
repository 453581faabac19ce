//! Guests: forked children that could get no slot.
//!
//! A guest keeps the mapping that it was born with, which takes no descriptor, no memory and no slot: what it reads is
//! what is there, and what it writes its parent sees. It cannot call the arena, so its parent holds for it: blocks that
//! the parent had at the fork are **lent**, and keep the parent's bit until no guest lives, also after the parent's death.
//!
//! How anybody knows: beside its sign of life a participant has a sign of guests, which every child inherits, and a child
//! with a slot of its own lets go. A parent that wants to know whether its guests live takes a fresh sign for the guests
//! to come, lets go of the old one, and asks whether that is still locked. Blocks lent under one sign are a **party**.

use super::backing::{Backing, Sign};
use super::private::Private;
use crate::error::{Error, Result};

/// More parties than this wait for each other.
const MOST_PARTIES: usize = 64;
/// Signs of guests of a slot's earlier tenants that may be in the way.
const MOST_TRIES: u64 = 16;

/// What a participant knows of its guests.
#[derive(Default)]
pub(super) struct Guests {
    sign: Option<Sign>,
    /// Which sign of guests `sign` is.
    nth: u64,
    /// Blocks lent under `sign`.
    lent: Vec<u32>,
    parties: Vec<Party>,
}

/// Guests whose sign only they have.
struct Party {
    nth: u64,
    lent: Vec<u32>,
}

impl Guests {
    /// For a participant that comes, or a child that is being forked: its first sign of guests.
    pub(super) fn new(backing: &Backing, slot: u32) -> Result<Self> {
        for nth in 0..MOST_TRIES {
            if let Some(sign) = backing.guest_sign(slot, nth)? {
                return Ok(Self { sign: Some(sign), nth, ..Self::default() });
            }
        }
        Err(Error::attach(format!("guests of earlier tenants of place {slot} live still: end them, or try again")))
    }

    /// In the parent of a new guest: everything that this process holds is lent.
    pub(super) fn lend(&mut self, private: &mut Private) {
        let held: Vec<u32> = private.held().map(|mine| mine.index).collect();
        for index in held {
            if !private.is_parted(index) && !self.lent.contains(&index) {
                private.lend(index);
                self.lent.push(index);
            }
        }
    }

    /// Puts the guests so far into a party of their own, whose sign this process lets go; no matter if it can't.
    pub(super) fn part_company(&mut self, backing: &Backing, slot: u32) {
        if self.lent.is_empty() || self.parties.len() >= MOST_PARTIES {
            return;
        }
        let next = self.nth + 1;
        if let Ok(Some(fresh)) = backing.guest_sign(slot, next) {
            self.sign = Some(fresh);
            self.parties.push(Party { nth: self.nth, lent: std::mem::take(&mut self.lent) });
        }
        // A sign that somebody has is not tried again.
        self.nth = if self.lent.is_empty() { next } else { self.nth };
    }

    /// The blocks of parties of which nobody lives.
    pub(super) fn gone(&mut self, backing: &Backing, slot: u32) -> Vec<u32> {
        let is_gone = |party: &mut Party| matches!(backing.has_guest_sign(slot, party.nth), Ok(false));
        self.parties.extract_if(.., is_gone).flat_map(|party| party.lent).collect()
    }
}
