//! What was planned lately, for all threads of the process.
//!
//! The cache is bounded twice: by the number of entries, and by the sum of their weights. The one that was used least
//! recently goes first. Its lock is a private one that is held across forks, so a child finds the cache whole.

use crate::prim::SpinLock;

struct Entry<K, V> {
    key: K,
    value: V,
    weight: usize,
}

/// The latest last.
pub(super) struct Cache<K, V> {
    entries: SpinLock<Vec<Entry<K, V>>>,
    most_entries: usize,
    most_weight: usize,
}

impl<K: PartialEq, V: Clone> Cache<K, V> {
    pub(super) const fn new(most_entries: usize, most_weight: usize) -> Self {
        Self { entries: SpinLock::new(Vec::new()), most_entries, most_weight }
    }

    /// What was planned for `key`, or what `make` plans now, outside of the lock; with its weight.
    pub(super) fn get(&self, key: K, make: impl FnOnce(&K) -> (V, usize)) -> V {
        if let Some(found) = self.find(&key) {
            return found;
        }
        let (value, weight) = make(&key);
        let gone = self.insert(Entry { key, value: value.clone(), weight });
        // What is dropped is dropped outside of the lock, too.
        drop(gone);
        value
    }

    fn find(&self, key: &K) -> Option<V> {
        let mut entries = self.entries.lock();
        let place = entries.iter().rposition(|entry| entry.key == *key)?;
        if place + 1 < entries.len() {
            entries[place..].rotate_left(1);
        }
        entries.last().map(|entry| entry.value.clone())
    }

    fn insert(&self, entry: Entry<K, V>) -> Vec<Entry<K, V>> {
        let mut gone = Vec::with_capacity(self.most_entries + 1);
        let mut entries = self.entries.lock();
        let twin = entries.iter().position(|other| other.key == entry.key);
        gone.extend(twin.map(|place| entries.remove(place)));
        entries.push(entry);
        let mut weight = entries.iter().map(|entry| entry.weight).sum::<usize>();
        while entries.len() > 1 && (entries.len() > self.most_entries || weight > self.most_weight) {
            let first = entries.remove(0);
            weight -= first.weight;
            gone.push(first);
        }
        gone
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.lock().len()
    }

    pub(super) fn hold(&self) {
        self.entries.lock_across_fork();
    }

    pub(super) fn let_go(&self) {
        self.entries.unlock_after_fork();
    }
}
