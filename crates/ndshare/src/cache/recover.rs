//! After a death under the lock: what derives from the entries is made anew.

use super::policy::{MAIN, SMALL};
use super::table::{CLOCK, FREE, LIVE, LOADING, State, USED};
use super::{Cache, FOREVER, Gone};
use crate::arena::TicketId;
use crate::error::Result;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::Relaxed;
use std::collections::HashSet;

impl Cache {
    /// Puts the cache in order, under the lock. Idempotent: whoever does it may die as well.
    pub(super) fn recover(&self, gone: &mut Gone) -> Result<()> {
        self.end_loads_of_the_dead()?;
        point(Point::CacheEnded);
        self.forget_derived();
        point(Point::CacheForgotten);
        let mut queued = self.list_places();
        queued.sort_unstable();
        let clock = queued.last().map_or(0, |&(order, _)| order >> 2);
        self.table.word(CLOCK).store(clock, Relaxed);
        for (order, place) in queued {
            self.requeue(order, place);
        }
        point(Point::CacheRequeued);
        self.end_unnamed_records(gone)
    }

    fn end_loads_of_the_dead(&self) -> Result<()> {
        for place in self.places() {
            let entry = self.table.entry(place);
            if entry.now().state() == State::Loading && !self.arena().is_identity_alive(entry.loader().load(Relaxed))? {
                self.change(entry, State::Empty);
                self.wake(place)?;
            }
        }
        Ok(())
    }

    /// Empties index, queues, list of free places and totals.
    fn forget_derived(&self) {
        for bucket in self.table.buckets() {
            bucket.fetch_and(!0xffff_ffff, Relaxed);
        }
        for queue in [SMALL, MAIN].map(|tag| self.table.queue(tag)) {
            [queue.head, queue.tail, queue.bytes, queue.count].iter().for_each(|word| word.store(0, Relaxed));
        }
        [FREE, USED, LIVE, LOADING].iter().for_each(|&index| self.table.word(index).store(0, Relaxed));
    }

    /// Puts every place where it belongs, except into the queues: returns who goes there, and since when.
    fn list_places(&self) -> Vec<(u64, u32)> {
        let mut queued = Vec::new();
        for place in self.places() {
            let entry = self.table.entry(place);
            match entry.now().state() {
                State::Empty => {
                    // Records that it may still name are ended with all that nobody names.
                    entry.children().iter().for_each(|child| child.nonce.store(0, Relaxed));
                    entry.order().store(0, Relaxed);
                    self.free_place(place);
                }
                State::Loading => {
                    self.chain(place);
                    super::add(self.table.word(LOADING), 1);
                }
                State::Live | State::Failed => {
                    self.chain(place);
                    queued.push((entry.order().load(Relaxed), place));
                }
            }
        }
        queued
    }

    fn requeue(&self, order: u64, place: u32) {
        let entry = self.table.entry(place);
        match order & 3 {
            tag @ (SMALL | MAIN) => self.table.link_at_head(place, tag),
            // It came to life, and its process died before it was queued.
            _ => self.table.enqueue(place, SMALL),
        }
        super::add(self.table.word(USED), entry.bytes().load(Relaxed));
        if entry.now().state() == State::Live {
            super::add(self.table.word(LIVE), 1);
        }
    }

    /// Ends the records of the head that no entry names: their making or ending died half-way.
    fn end_unnamed_records(&self, gone: &mut Gone) -> Result<()> {
        let named: HashSet<u64> = self
            .places()
            .flat_map(|place| self.table.entry(place).children())
            .map(|child| child.nonce.load(Relaxed))
            .collect();
        for (record, _) in self.table.head.children()? {
            if !named.contains(&record.nonce) {
                gone.extend(self.table.head.end_record(TicketId { ..record }, &FOREVER)?);
            }
        }
        Ok(())
    }
}
