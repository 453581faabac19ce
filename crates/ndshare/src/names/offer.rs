//! Publishing to other users, who may read and do nothing else ([what is promised](docs/offers.md)).

use super::letter::{Description, Letter, MOST_BYTES, file_of};
use super::office::{self, Desk};
use super::{Found, Kept, Object, check_said, enter};
use crate::arena::{Arena, Deadline, Hold, check_mode};
use crate::error::{Error, Kind, Result};
use crate::os::offers::{self, Access, Named};
use crate::registry::ObjectKind;
use crate::session::check_name;
use std::time::Duration;

/// Who waits for the directory of offers looks so often.
const NAP: Duration = Duration::from_millis(20);

/// Which other users may read what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audience {
    /// Permission bits: 0o640, the group; 0o604, all who are not in the group; 0o644, both.
    pub mode: u32,
    /// The group; none: the one that this process acts for.
    pub group: Option<u32>,
}

/// As [`publish`](super::publish), and offers the object to other users, who may read it by
/// [`attach_offered`](super::attach_offered): an array or a ring of an arena that was made with a `mode`. They see all of that
/// arena's data. It is offered until this process takes the name back, or ends.
///
/// ```
/// use ndshare::arena::Options;
/// use ndshare::{Arena, Array, Deadline, Number, names};
///
/// let forever = Deadline::never();
/// let options = Options { budget_bytes: Some(8 << 20), mode: Some(0o640), ..Options::default() };
/// let arena = Arena::create(&options)?; // nds.Arena("8 MiB", mode=0o640)
/// let image = Array::zeros(&arena, &[480, 640], Number::U16)?;
/// let name = format!("image for others of {}", std::process::id());
/// let group = names::Audience { mode: 0o640, group: None };
/// names::publish_to(&name, &image, group, false, &forever)?; // nds.publish(name, image, mode=0o640)
/// // In a program of a user of the group: nds.attach(name, user=…, readonly=True)
/// assert!(names::unpublish(&name, &forever)?);
/// # Ok::<(), ndshare::Error>(())
/// ```
///
/// # Errors
/// `InvalidType` for what is no array and no ring; `InvalidValue` for one of an arena that was not made with a `mode`, or with
/// one that lets in fewer, for a mode that is none, and a group that this process is not in; as [`publish`](super::publish).
pub fn publish_to(
    name: &str,
    object: impl Into<Object>,
    audience: Audience,
    replace: bool,
    deadline: &Deadline,
) -> Result<()> {
    publish_found_to(name, object.into().found(), audience, replace, deadline)
}

/// As [`publish_to`], of an object that a binding has in its own form.
///
/// # Errors
/// As [`publish_to`].
#[doc(hidden)]
pub fn publish_found_to(
    name: &str,
    object: Found,
    Audience { mode, group }: Audience,
    replace: bool,
    deadline: &Deadline,
) -> Result<()> {
    check_name(name)?;
    check_mode(mode)?;
    let hold = offerable(&object)?.clone();
    check_arena(hold.arena(), mode)?;
    let Some((data, data_len)) = hold.arena().open_data()? else { return Err(not_for_others(hold.arena(), mode)) };
    let letter = letter_of(name, &object, &hold, data_len).encode();
    check_said(letter.len(), MOST_BYTES)?;
    let access = Access::new(mode, group);
    let mut wait = || {
        let held = |error: Error| error.held_by(offers::lock_holder());
        deadline.go_on("the directory of offers").map_err(held)?;
        std::thread::sleep(deadline.nap(NAP));
        Ok(())
    };
    let file = file_of(name);
    let mut named = Named::new(&file, access, replace || office::has(name), &mut wait)?;
    // The registry decides, before what is offered now loses its name.
    if let Err(error) = enter(name, object, replace, deadline).and_then(|_| named.show(&file)) {
        named.remove();
        return Err(error);
    }
    office::open(Desk::new(name, (named, access), (letter, data), Box::new(hold)))
}

fn letter_of(name: &str, object: &Found, hold: &Hold, data_len: u64) -> Letter {
    let description = match object.kind {
        ObjectKind::Array => object.token.description.encode(),
        _ => Vec::new(),
    };
    Letter::Offered(Description {
        name: name.to_owned(),
        kind: object.kind,
        data_len,
        place: hold.place(),
        block_len: hold.len_bytes() as u64,
        offset: object.token.offset,
        description,
    })
}

fn offerable(object: &Found) -> Result<&Hold> {
    match (object.kind, &object.kept) {
        (ObjectKind::Array | ObjectKind::Ring, Kept::Block(hold)) => Ok(hold),
        (kind, _) => Err(Error::new(
            Kind::InvalidType,
            format!(
                "expected an array or a ring to publish to other users, got one of kind {kind}: publish it without a mode"
            ),
        )),
    }
}

fn check_arena(arena: &Arena, mode: u32) -> Result<()> {
    match arena.mode() {
        Some(most) if mode & !most == 0 => Ok(()),
        Some(most) => Err(Error::value(format!(
            "expected a mode within that of the arena, {most:#o}, got {mode:#o}: make the arena with this mode"
        ))),
        None => Err(not_for_others(arena, mode)),
    }
}

#[cold]
fn not_for_others(arena: &Arena, mode: u32) -> Error {
    Error::value(format!(
        "expected an object of an arena that was made with a mode, got one of arena {:016x}, which is this user's alone: make \
         it in an arena for others to see, nds.Arena(\"1 GiB\", mode={mode:#o})",
        arena.id()
    ))
}
