//! What another user offers, as this process has it: to be read, and nothing else.
//!
//! ```no_run
//! use ndshare::{Deadline, names};
//!
//! let camera = 1001; // the user whose program offers it: nds.attach("frames", user="camera", readonly=True)
//! if let names::Offered::Ring(ring) = names::attach_offered("frames", camera, &Deadline::never())? {
//!     let frame = ring.get(&Deadline::never())?;
//!     println!("{} {:?}", frame.seq, frame.description.layout.shape());
//! }
//! # Ok::<(), ndshare::Error>(())
//! ```

use super::letter::{self, Letter, MOST_BYTES, file_of};
use crate::arena::{Copied, Deadline, OfferedBlock, OfferedData};
use crate::array::Description;
use crate::element::Element;
use crate::error::{Error, Kind, Result};
use crate::os::offers::{self, Line};
use crate::registry::ObjectKind;
use crate::ring::OfferedRing;
use crate::session::check_name;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

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
    description: Description,
    line: Arc<Line>,
}

impl OfferedArray {
    fn open(letter: &letter::Description, block: OfferedBlock, line: Arc<Line>) -> Result<Self> {
        let description = Description::decode(&letter.description)?;
        let itemsize = description.element.as_ref().map(Element::size);
        let itemsize =
            itemsize.ok_or_else(|| Error::attach("expected an array that says what its items are, got none"))?;
        description.layout.check_inside(letter.offset, itemsize, block.len_bytes())?;
        Ok(Self { block, offset: letter.offset, description, line })
    }

    /// How its items lie, and what they are.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Its first item. What is there may change at any moment, and can only be read.
    pub fn as_ptr(&self) -> *const u8 {
        self.block.data().as_ptr().wrapping_add((self.block.place() + self.offset) as usize)
    }

    /// A copy of the bytes that its items reach, and where in them the first item is.
    ///
    /// # Errors
    /// `ArenaFull` without memory for it.
    pub fn copy(&self) -> Result<Copied> {
        let itemsize = self.description.element.as_ref().map_or(1, Element::size);
        self.block.data().copy(self.block.place() + self.offset, &self.description.layout, itemsize)
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
    let file = file_of(name);
    // BOUND: until somebody offers it, or `deadline` ends.
    loop {
        if let Some(line) = offers::connect(uid, &file)?
            && let Some(offered) = ask(line, name, uid, deadline)?
        {
            return Ok(offered);
        }
        deadline.go_on("the offer").map_err(|error| not_there(name, uid, error))?;
        std::thread::sleep(deadline.nap(NAP));
    }
}

#[cold]
fn not_there(name: &str, uid: u32, error: Error) -> Error {
    if error.kind() != Kind::Timeout {
        return error;
    }
    error.saying(format!(
        "expected user {uid} to offer an object under the name {name:?}, got none before the timeout: have it published with a \
         mode, by a process that goes on, or wait longer"
    ))
}

/// What is at the other end; none when there is no place for one more reader just now.
fn ask(line: Line, name: &str, uid: u32, deadline: &Deadline) -> Result<Option<Offered>> {
    let mut buffer = vec![0; MOST_BYTES];
    // BOUND: until there is an answer, or `deadline` ends.
    let (len, files) = loop {
        match line.first(&mut buffer, deadline.nap(NAP))? {
            Some(first) => break first,
            None => deadline.go_on(&format!("an answer of process {}, which offers {name:?},", line.pid))?,
        }
    };
    match Letter::decode(&buffer[..len])? {
        Letter::Offered(letter) if letter.name == name => open(&letter, files, uid, line).map(Some),
        Letter::Offered(letter) => {
            Err(Error::attach(format!("expected the name {name:?}, got {:?}: choose shorter names", letter.name)))
        }
        Letter::Refused => Err(offers::refused(uid)),
        Letter::Busy if deadline.go_on("a place among the readers").is_ok() => Ok(None),
        Letter::Busy => Err(Error::attach(format!(
            "expected a place among the readers of what process {} offers, got none before the timeout: they are as many as \
             there can be; let some of them end",
            line.pid
        ))),
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
