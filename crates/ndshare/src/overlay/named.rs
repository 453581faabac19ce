//! Overlays by name: found or made.

use super::memory::Overlay;
use super::uses::{Field, Use, Uses};
use crate::arena::{Arena, Deadline};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::registry::{ObjectKind, Wanted, find_or_make};
use std::sync::Arc;

impl Overlay {
    /// The overlay of this name and these uses, which all processes of the arena share that ask for it; made if there is
    /// none. It lasts as long as somebody has it.
    ///
    /// # Errors
    /// `InvalidValue` for a name that is empty or longer than 240 bytes, and when the name is another object's or that of an
    /// overlay with other uses, with both; `Misuse` when all names are taken; as [`Overlay::new`].
    pub fn named(arena: &Arc<Arena>, name: &str, uses: Uses, deadline: &Deadline) -> Result<Self> {
        let mut make = || Self::new(arena, uses.clone(), deadline).map(|overlay| overlay.head().clone());
        let wanted = Wanted::new(ObjectKind::Overlay, name);
        let overlay = Self::open(find_or_make(arena, &wanted, &mut make, deadline)?)?;
        if *overlay.uses() == uses {
            return Ok(overlay);
        }
        let (there, asked) = (told(overlay.uses()), told(&uses));
        Err(Error::value(format!(
            "expected the overlay {name:?} that is there already, of {there}, got {asked}: give the same, or choose another name"
        )))
    }
}

fn told(uses: &Uses) -> String {
    let field = |field: &Field| {
        let (name, description) = (field.name(), field.description());
        let element = description.element.as_ref().map(Element::to_string).unwrap_or_default();
        format!("{name} {:?} {element}", description.layout.shape())
    };
    let one = |one: &Use| format!("{}({})", one.name(), one.fields().iter().map(field).collect::<Vec<_>>().join(", "));
    uses.all().iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::element::Number::{F32, U8};

    #[test]
    fn a_name_finds_the_overlay_of_the_same_uses() {
        let forever = Deadline::never();
        let (arena, heap) = Arena::create_on_heap(4 << 20).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let uses = |len: usize| Uses::default().with("u", [("x", [len], F32)]).unwrap();
        let mine = Overlay::named(&arena, "scratch", uses(3), &forever).unwrap();
        let theirs = Overlay::named(&other, "scratch", uses(3), &forever).unwrap();
        assert_eq!((theirs.head().block(), theirs.data().block()), (mine.head().block(), mine.data().block()));
        let more = uses(3).with("v", [("y", [1], U8)]).unwrap();
        for (differs, shown) in [(uses(4), "u(x [4] <f4)"), (more, "u(x [3] <f4), v(y [1] |u1)")] {
            let text = Overlay::named(&other, "scratch", differs, &forever).unwrap_err().to_string();
            assert!(text.contains(&format!("of u(x [3] <f4), got {shown}: give the same")), "{text}");
        }
        drop((mine, theirs));
        assert_eq!(arena.stats().unwrap().used_bytes, 0);
    }
}
