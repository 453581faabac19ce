//! Names in an arena that lasts: they keep what they name, in the file, when all processes have gone.

use super::{Found, Kept, NAP, Object, missing};
use crate::arena::{Arena, Deadline, Hold};
use crate::array::{Token, make_card, read_card};
use crate::error::{Error, Kind, Result};
use crate::registry::{self, ObjectKind};
use std::sync::Arc;

impl Arena {
    /// Gives a name in this arena, which must be a file with a path, to an object of it. The name keeps the object until it
    /// is taken away, also while no process has the arena. Names that [`Ring::named`](crate::Ring::named) and its like give
    /// in this arena are of the same kind.
    ///
    /// # Errors
    /// `InvalidValue` for a name that is empty or longer than 240 bytes, for an arena in memory alone and for an object of
    /// another arena; `ReadOnly` where this process joined the arena to read only; `Misuse` when something else has the
    /// name, unless `replace` says that it loses it; `ArenaFull`; `Timeout` at `deadline`.
    pub fn publish(
        self: &Arc<Self>,
        name: &str,
        object: impl Into<Object>,
        replace: bool,
        deadline: &Deadline,
    ) -> Result<()> {
        self.publish_as(name, object.into().found(), replace, deadline)
    }

    /// As [`Self::publish`], of an object that a binding has in its own form.
    ///
    /// # Errors
    /// As [`Self::publish`].
    #[doc(hidden)]
    pub fn publish_as(self: &Arc<Self>, name: &str, object: Found, replace: bool, deadline: &Deadline) -> Result<()> {
        self.check_lasting()?;
        self.check_writable("a name")?;
        let Found { kind, token, kept } = object;
        let Kept::Block(block) = kept else {
            return Err(Error::value(
                "expected an object in this arena, got an arena: arenas have names by names::publish (in Python nds.publish)",
            ));
        };
        if block.arena().id() != self.id() {
            let (mine, theirs) = (self, block.arena());
            return Err(Error::value(format!(
                "expected an object in {mine:?}, got one in {theirs:?}: make it with arena=, or copy it"
            )));
        }
        match self.has_array(name, &token, deadline) {
            Ok(true) if kind == ObjectKind::Array => return Ok(()),
            // What is gone is replaced as what is there.
            Err(error) if !(replace && error.kind() == Kind::Poisoned) => return Err(error),
            _ => {}
        }
        let block = if kind == ObjectKind::Array { make_card(&token, &block, deadline)? } else { block };
        registry::put(self, (kind, name), &block, replace, deadline)
    }

    /// Whether this very array has the name already.
    fn has_array(self: &Arc<Self>, name: &str, token: &Token, deadline: &Deadline) -> Result<bool> {
        let Some((ObjectKind::Array, head)) = registry::get(self, name, deadline)? else { return Ok(false) };
        let bare = Token { is_session: false, ..token.clone() };
        Ok(read_card(&head).is_ok_and(|(there, _)| there.key() == bare.key()))
    }

    /// The object of a name in this arena, as soon as there is one.
    ///
    /// # Errors
    /// `Timeout` at `deadline`, with the names that there are; `InvalidValue` for a name that can be none, and for an arena in
    /// memory alone; as the opening of the object.
    pub fn attach_name(self: &Arc<Self>, name: &str, deadline: &Deadline) -> Result<Object> {
        Object::open(self.wait_for_name(name, deadline)?)
    }

    /// As [`Self::attach_name`], but does not open the object.
    ///
    /// # Errors
    /// As [`Self::attach_name`].
    #[doc(hidden)]
    pub fn wait_for_name(self: &Arc<Self>, name: &str, deadline: &Deadline) -> Result<Found> {
        self.check_lasting()?;
        // BOUND: until somebody gives something this name, or `deadline` ends.
        loop {
            if let Some((kind, block)) = registry::get(self, name, deadline)? {
                return found(kind, block);
            }
            let what = format!("the name {name:?}");
            deadline.go_on(&what).map_err(|error| self.not_there(name, error))?;
            std::thread::sleep(deadline.nap(NAP));
        }
    }

    #[cold]
    fn not_there(self: &Arc<Self>, name: &str, error: Error) -> Error {
        let there = registry::list(self, &Deadline::now()).unwrap_or_default();
        missing(name, error, &there, &format!(" in {self:?}"))
    }

    /// Takes a name away; says whether there was one. Who has the object keeps it.
    ///
    /// # Errors
    /// `InvalidValue` as [`Self::attach_name`]; `ReadOnly`; `Timeout` at `deadline`.
    pub fn unpublish(self: &Arc<Self>, name: &str, deadline: &Deadline) -> Result<bool> {
        self.check_lasting()?;
        self.check_writable("the end of a name")?;
        registry::remove(self, name, deadline)
    }

    /// The names in this arena, in order, and what they are.
    ///
    /// # Errors
    /// `InvalidValue` for an arena in memory alone; `Timeout` at `deadline`.
    pub fn names(self: &Arc<Self>, deadline: &Deadline) -> Result<Vec<(String, ObjectKind)>> {
        self.check_lasting()?;
        registry::list(self, deadline)
    }

    fn check_lasting(&self) -> Result<()> {
        if self.is_lasting() {
            return Ok(());
        }
        Err(Error::new(
            Kind::InvalidValue,
            "expected an arena on a path, whose names keep what they name, got one in memory: make it with path=, or use \
             names::publish and attach (in Python nds.publish and nds.attach)",
        ))
    }
}

fn found(kind: ObjectKind, block: Hold) -> Result<Found> {
    if kind == ObjectKind::Array {
        let (token, block) = read_card(&block)?;
        return Ok(Found { kind, token, kept: Kept::Block(block) });
    }
    Ok(Found { kind, token: Token::of(&block), kept: Kept::Block(block) })
}
