//! Where a source is found, again and again: under a published name, in a session, in an arena on a path, or by a reference.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ndshare::arena::{BlockId, Look};
use ndshare::names::{self, Object};
use ndshare::registry::{self, ObjectKind};
use ndshare::{Arena, Array, Deadline, Result, Ring, Token};

use super::shown::wrong;
use crate::frames::ring_in_session;

/// Where to look.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Published(String),
    InSession { session: String, ring: String },
    InArena { path: PathBuf, ring: String },
    Reference(Token),
}

/// What can be looked at.
#[derive(Debug, Clone)]
pub(super) enum Found {
    Ring(Arc<Ring>),
    Array(Array),
    Seen(Arc<SeenRing>),
}

/// A ring in an arena that is looked at from outside: nobody is joined.
pub(super) struct SeenRing {
    pub(super) look: Look,
    pub(super) head: BlockId,
}

impl fmt::Debug for SeenRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeenRing({:?} in {:x})", self.head, self.look.id())
    }
}

impl Found {
    /// Its arena, and its block there.
    fn home(&self) -> (u64, BlockId) {
        match self {
            Self::Ring(ring) => (ring.head().arena().id(), ring.head().block()),
            Self::Array(array) => (array.hold().arena().id(), array.hold().block()),
            Self::Seen(ring) => (ring.look.id(), ring.head),
        }
    }

    /// Whether anybody but this process has it. Who only looks keeps nothing alive for long: a successor could not take the
    /// name of what still lives.
    pub(super) fn is_kept_by_others(&self) -> bool {
        let kept = |arena: &Arc<Arena>, block| arena.is_kept_by_others(block).unwrap_or(true);
        match self {
            Self::Ring(ring) => kept(ring.head().arena(), ring.head().block()),
            Self::Array(array) => kept(array.hold().arena(), array.hold().block()),
            Self::Seen(ring) => ring.look.is_live(ring.head),
        }
    }
}

impl Place {
    /// What is there now. The arena is joined to read only.
    pub(super) fn find(&self) -> Result<Found> {
        match self {
            Self::Published(name) => match names::attach_readonly(name, &Deadline::after(Duration::ZERO))? {
                Object::Ring(ring) => Ok(Found::Ring(ring)),
                Object::Array(array) => Ok(Found::Array(array)),
                other => {
                    let kind = other.kind();
                    Err(wrong(format!("expected {name:?} to be a ring or an array, got one of kind {kind}")))
                }
            },
            Self::InSession { session, ring } => {
                let missing = || wrong(format!("expected a ring {ring:?} in a session {session:?}, got none"));
                ring_in_session(session, ring)?.map(Found::Ring).ok_or_else(missing)
            }
            Self::InArena { path, ring } => seen_in(path, ring).map(Found::Seen),
            Self::Reference(token) => open(token),
        }
    }

    /// Whether something else is there by now than what was found.
    pub(super) fn has_other(&self, found: &Found) -> bool {
        let home = found.home();
        match self {
            Self::Published(name) => names::listed().is_ok_and(|all| {
                let is_other = |one: &names::Listed| (one.locator.id, one.block) != home;
                all.iter().any(|one| one.name == *name && is_other(one))
            }),
            Self::InSession { session, ring } => {
                matches!(ring_in_session(session, ring), Ok(Some(ring)) if ring.head().block() != home.1)
            }
            Self::InArena { path, ring } => {
                matches!(seen_in(path, ring), Ok(ring) if (ring.look.id(), ring.head) != home)
            }
            Self::Reference(_) => false,
        }
    }

    /// Whether something may come here once what was there is gone.
    pub(super) fn may_have_successor(&self) -> bool {
        !matches!(self, Self::Reference(_))
    }
}

/// The ring of a name in the arena at a path.
fn seen_in(path: &Path, name: &str) -> Result<Arc<SeenRing>> {
    let look = Look::at_path(path)?;
    let found = registry::find_seen(&look, name);
    look.check_len()?;
    let path = path.display();
    match found {
        Some((ObjectKind::Ring, head)) => Ok(Arc::new(SeenRing { look, head })),
        Some((kind, _)) => Err(wrong(format!("expected {name:?} in {path} to be a ring, got one of kind {kind}"))),
        None => Err(wrong(format!("expected a ring {name:?} in {path}, got none: see `ndshare ls {path}`"))),
    }
}

/// What a reference names.
fn open(token: &Token) -> Result<Found> {
    let arena = Arena::attach_as(&token.locator, true)?;
    let hold = token.claim(&arena, &Deadline::after(Duration::from_secs(5)))?;
    if token.is_array() {
        return Array::of_parts(hold, token.offset, token.description.clone(), true).map(Found::Array);
    }
    Ring::open(hold).map(Found::Ring)
}
