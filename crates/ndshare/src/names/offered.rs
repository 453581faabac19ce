//! What another user offers, as this process has it: to be read, and nothing else.
//!
//! ```no_run
//! use ndshare::{Deadline, names};
//!
//! let camera = 1001; // the user whose program offers it: nds.attach("frames", user="camera", readonly=True)
//! if let names::Offered::Ring(ring) = names::attach_offered("frames", camera, &Deadline::never())? {
//!     let frame = ring.get(&Deadline::never())?;
//!     println!("{} {:?} {:?}", frame.seq, frame.shape(), frame.to_vec::<u16>()?.first());
//! }
//! # Ok::<(), ndshare::Error>(())
//! ```

use super::letter::{self, Letter, MOST_BYTES, file_of};
use crate::arena::{Deadline, OfferedBlock, OfferedData};
use crate::array::{Description, Element, Item, Layout, items_in};
use crate::error::{Error, Kind, Result};
use crate::os::offers::{self, Heard, Line};
use crate::registry::ObjectKind;
use crate::ring::OfferedRing;
use crate::session::check_name;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who waits for an offer, or for an answer, looks so often.
const NAP: Duration = Duration::from_millis(20);

/// What another user offers.
#[derive(Debug)]
pub enum Offered {
    /// An array.
    Array(OfferedArray),
    /// A ring, to be read.
    Ring(OfferedRing),
}

/// An array of another user's, in memory that this process may only read. It stays mapped whatever becomes of the offer;
/// once that has ended, anything may stand there.
#[derive(Debug, Clone)]
pub struct OfferedArray {
    block: OfferedBlock,
    offset: u64,
    layout: Layout,
    element: Element,
    line: Arc<Line>,
}

impl OfferedArray {
    fn open(letter: &letter::Description, block: OfferedBlock, line: Arc<Line>) -> Result<Self> {
        let contradicts = |error| Error::attach(format!("{error}: who offers it contradicts itself"));
        let Description { layout, element } = Description::decode(&letter.description).map_err(contradicts)?;
        let element =
            element.ok_or_else(|| Error::attach("expected an array that says what its items are, got none"))?;
        layout.check_inside(letter.offset, element.size(), block.len_bytes()).map_err(contradicts)?;
        Ok(Self { block, offset: letter.offset, layout, element, line })
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// Bytes from item to item along each axis.
    pub fn strides(&self) -> &[isize] {
        self.layout.strides()
    }

    /// What its items are.
    pub fn element(&self) -> &Element {
        &self.element
    }

    /// How its items lie, and what they are.
    #[doc(hidden)]
    pub fn description(&self) -> Description {
        Description { layout: self.layout.clone(), element: Some(self.element.clone()) }
    }

    /// Its first item. What is there may change at any moment, and can only be read.
    pub fn as_ptr(&self) -> *const u8 {
        self.block.data().as_ptr().wrapping_add((self.block.place() + self.offset) as usize)
    }

    /// The items in C order, as they are now; they may change while they are copied.
    ///
    /// # Errors
    /// `InvalidType` when they are of another type; `ArenaFull` without memory for a copy.
    pub fn to_vec<T: Item>(&self) -> Result<Vec<T>> {
        let first = self.block.place() + self.offset;
        let copied = self.block.data().copy(first, &self.layout, self.element.size())?;
        let (bytes, first) = copied.bytes();
        items_in(bytes, first, &self.layout, &self.element)
    }

    /// Whether it is still offered. If not, it is not what it was.
    pub fn is_offered(&self) -> bool {
        self.line.wait(Duration::ZERO).is_none()
    }

    /// The block that it lies in: its first byte, and how many it has.
    #[doc(hidden)]
    pub fn block(&self) -> (*const u8, usize) {
        (self.block.data().as_ptr().wrapping_add(self.block.place() as usize), self.block.len_bytes())
    }

    /// Where in the block the first item is.
    #[doc(hidden)]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// What `uid` offers under a name, as soon as it does: an array or a ring, to be read.
///
/// # Errors
/// `Refused` when this user may not read it; `Timeout` at `deadline`; `InvalidValue` for a name that can be none; `Attach` and
/// `Foreign` when what is in its place is not `uid`'s, or contradicts itself.
pub fn attach_offered(name: &str, uid: u32, deadline: &Deadline) -> Result<Offered> {
    check_name(name)?;
    let mut state = State::NotThere;
    let found = wait_for(name, uid, deadline, &mut state);
    found.map_err(|error| if error.kind() == Kind::Timeout { error.saying(state.text(name, uid)) } else { error })
}

fn wait_for(name: &str, uid: u32, deadline: &Deadline, state: &mut State) -> Result<Offered> {
    let file = file_of(name);
    // BOUND: until somebody offers it, or `deadline` ends.
    loop {
        if let Some(line) = offers::connect(uid, &file)?
            && let Some(offered) = ask(line, name, uid, deadline, state)?
        {
            return Ok(offered);
        }
        deadline.go_on("the offer")?;
        std::thread::sleep(deadline.nap(NAP));
    }
}

/// What was seen last of an offer that is waited for.
enum State {
    NotThere,
    /// This process listens, and does not answer.
    Silent(u32),
    /// This process has as many readers as it may.
    Busy(u32),
}

impl State {
    #[cold]
    fn text(&self, name: &str, uid: u32) -> String {
        match self {
            Self::NotThere => format!(
                "expected user {uid} to offer an object under the name {name:?}, got none before the timeout: have it published \
                 with a mode, by a process that goes on, or wait longer"
            ),
            Self::Silent(pid) => format!(
                "expected an answer of process {pid}, which offers {name:?}, got none before the timeout: see whether it is \
                 stopped, or wait longer"
            ),
            Self::Busy(pid) => format!(
                "expected a place among the readers of process {pid}, which offers {name:?}, got none before the timeout: they \
                 are as many as there can be; have some of them end, or wait longer"
            ),
        }
    }
}

/// Who listens is given so long for an answer, whatever the timeout: a look without one would find nothing, ever.
const ANSWER: Duration = Duration::from_millis(100);

/// What is at the other end; none when it ended just now, or has no place for one more reader.
fn ask(line: Line, name: &str, uid: u32, deadline: &Deadline, state: &mut State) -> Result<Option<Offered>> {
    if !matches!(state, State::Busy(_)) {
        *state = State::Silent(line.pid);
    }
    let (mut buffer, begun) = (vec![0; MOST_BYTES], Instant::now());
    // BOUND: until there is an answer, or `deadline` and `ANSWER` end.
    let (len, files) = loop {
        let patience = deadline.nap(NAP).max(ANSWER.saturating_sub(begun.elapsed()).min(NAP));
        match line.first(&mut buffer, patience)? {
            Heard::Message(len, files) => break (len, files),
            Heard::Nothing if begun.elapsed() < ANSWER => {}
            Heard::Nothing => deadline.go_on("an answer")?,
            // It was taken back, or replaced, just now.
            Heard::End => {
                *state = State::NotThere;
                return Ok(None);
            }
        }
    };
    match Letter::decode(&buffer[..len])? {
        Letter::Offered(letter) if letter.name == name => open(&letter, files, uid, line).map(Some),
        Letter::Offered(letter) => {
            Err(Error::attach(format!("expected the name {name:?}, got {:?}: choose shorter names", letter.name)))
        }
        Letter::Refused => Err(offers::refused(uid)),
        Letter::Busy => {
            *state = State::Busy(line.pid);
            Ok(None)
        }
    }
}

fn open(letter: &letter::Description, mut files: Vec<OwnedFd>, uid: u32, line: Line) -> Result<Offered> {
    let (Some(file), true) = (files.pop(), files.is_empty()) else {
        return Err(Error::attach("expected an offer with one file, got none, or several: it is not used"));
    };
    let data = OfferedData::map(&file, uid, letter.data_len)?;
    let (block, line) = (data.block(letter.place, letter.block_len)?, Arc::new(line));
    match letter.kind {
        ObjectKind::Array => OfferedArray::open(letter, block, line).map(Offered::Array),
        ObjectKind::Ring => OfferedRing::open(block, line).map(Offered::Ring),
        other => {
            Err(Error::attach(format!("expected an array or a ring, got an offer of kind {other}: it is not used")))
        }
    }
}
