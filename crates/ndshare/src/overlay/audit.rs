//! The invariants of an overlay, looked at from outside: its head, its bytes, and which use goes on.

use super::memory::KEPT;
use super::turns::going_on;
use super::uses::Uses;
use crate::arena::{AnyBlock, BlockId, Finding, Look, Rule};

/// All that contradicts itself in the overlay whose head a block is. Nothing, when it is gone.
pub fn audit(look: &Look, head: BlockId) -> Vec<Finding> {
    let Some(found) = look.block(head).and_then(|block| contradiction(look, &block)) else { return Vec::new() };
    let finding = Finding::new(Rule::Head, format!("overlay in block {}", head.index), found);
    if look.is_live(head) { vec![finding] } else { Vec::new() }
}

fn contradiction<B: AnyBlock>(look: &Look, head: &B) -> Option<String> {
    let (data, description) = match KEPT.read(head) {
        Ok(read) => read,
        Err(error) => return Some(error.to_string()),
    };
    let Some(uses) = Uses::decode(&description) else { return Some("it does not say which uses it has".to_owned()) };
    let Some(block) = head.sibling(data) else { return Some(format!("block {} with its bytes is gone", data.index)) };
    let len_bytes = size_of_val(block.words());
    if uses.len_bytes() > len_bytes {
        return Some(format!("its uses need {} bytes, and block {} has {len_bytes}", uses.len_bytes(), data.index));
    }
    if !look.keeps(head.block(), data.index) {
        return Some(format!("no record of it keeps block {} with its bytes", data.index));
    }
    let (number, count) = (going_on(look, head)?, uses.all().len() as u64);
    (number >= count).then(|| format!("use {number} goes on, and it has {count}"))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::Overlay;
    use super::*;
    use crate::arena::{Arena, Deadline, Options};
    use crate::element::Number::{F64, I32};
    use crate::prim::Ordering::SeqCst;

    #[test]
    fn whatever_stands_in_a_head_is_a_finding_or_borne() {
        let forever = Deadline::never();
        let arena = Arena::create(&Options { budget_bytes: Some(8 << 20), ..Options::default() }).unwrap();
        let uses = Uses::default().with("floats", [("A", &[3, 4][..], F64)]).unwrap();
        let overlay = Overlay::new(&arena, uses.with("ints", [("B", [7], I32)]).unwrap(), &forever).unwrap();
        let (look, head) = (Look::at(&arena.locator()).unwrap(), overlay.head().block());
        let inside = overlay.enter("ints", &forever).unwrap();
        assert_eq!(audit(&look, head), []);
        let mut found = 0;
        for word in overlay.head().words() {
            let old = word.load(SeqCst);
            for value in [u64::MAX, 0, old ^ 1, old.wrapping_add(1 << 32), 7] {
                word.store(value, SeqCst);
                found += audit(&look, head).len();
            }
            word.store(old, SeqCst);
        }
        assert!(found >= 12, "each word of the head and the use that goes on: {found}");
        assert_eq!(audit(&look, head), []);
        drop((inside, overlay));
        assert_eq!(audit(&look, head), [], "it is gone");
    }
}
