//! Many frames in one call, for those who have a hundred thousand small ones a second: what is done once for all of them,
//! a program need not do for each. The frames are as if they were written and read one by one.

use super::frame::Frame;
use super::publish::{Content, Published};
use super::reader::Reader;
use super::state::Ring;
use super::write::{Sink, Writing};
use crate::arena::Deadline;
use crate::error::{Error, Result};
use std::time::Duration;

/// After so many frames a writer asks whether it is to go on, also where it never had to wait.
const ASK_EVERY: usize = 256;

/// What became of frames that were to be published in one call: the first ones were, in their order.
#[derive(Debug, Default)]
pub struct PublishedMany {
    /// For each of these first ones its number; none for one that was dropped.
    pub numbers: Vec<Option<u64>>,
    /// Why the others were not, if there are others.
    pub error: Option<Error>,
}

/// One of many frames that are to be published: how many bytes its items have, and what is said beside them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Many<'a> {
    /// Bytes of the items.
    pub len_bytes: u64,
    /// What is published beside them.
    pub content: Content<'a>,
}

/// Publishes frames one after another, each filled by `fill`, which is told how many were before it. Where one cannot be
/// published, those before it are, and no later one is.
///
/// ```
/// use ndshare::ring::{Format, Many, Mode, RingOptions, Start, publish_many};
/// use ndshare::{Deadline, Number, Ring};
///
/// let forever = Deadline::never();
/// let ring = Ring::new(ndshare::session()?, Format::new(&[2], Number::U8), RingOptions::slots(8), &forever)?;
/// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
///
/// let lines = [[0_u8, 1], [2, 3], [4, 5]];
/// let frames = lines.iter().map(|_| Many { len_bytes: 2, ..Many::default() });
/// let published = publish_many(&ring, frames, |index, writing| writing.array()?.copy_from_slice(&lines[index]), &forever);
/// assert_eq!(published.numbers, [Some(0), Some(1), Some(2)]);
/// assert!(published.error.is_none());
///
/// let frames = reader.get_many(10, &forever)?;
/// assert_eq!(frames.len(), 3);
/// assert_eq!(frames[2].array()?.to_vec::<u8>()?, [4, 5]);
/// # Ok::<(), ndshare::Error>(())
/// ```
pub fn publish_many<'a>(
    sink: &dyn Sink,
    frames: impl IntoIterator<Item = Many<'a>>,
    mut fill: impl FnMut(usize, &Writing) -> Result<()>,
    deadline: &Deadline,
) -> PublishedMany {
    let mut many = PublishedMany::default();
    for (index, frame) in frames.into_iter().enumerate() {
        match publish_one(sink, frame, |writing| fill(index, writing), deadline) {
            Ok(published) => many.numbers.push(published.seq()),
            Err(error) => return PublishedMany { error: Some(error), ..many },
        }
        if (index + 1).is_multiple_of(ASK_EVERY)
            && let Err(error) = deadline.ask()
        {
            return PublishedMany { error: Some(error), ..many };
        }
    }
    many
}

fn publish_one(
    sink: &dyn Sink,
    Many { len_bytes, content }: Many<'_>,
    fill: impl FnOnce(&Writing) -> Result<()>,
    deadline: &Deadline,
) -> Result<Published> {
    let note_bytes = content.tail_bytes() as u64;
    let mut writing = match sink.begin_quick(len_bytes, note_bytes)? {
        Some(writing) => writing,
        None => sink.begin_with_note(len_bytes, note_bytes, deadline)?,
    };
    fill(&writing)?;
    match writing.publish(content, &Deadline::now())? {
        Published::Busy => writing.publish(content, deadline),
        published => Ok(published),
    }
}

impl Ring {
    /// Whether a frame could be published, as far as its own size and what is said of it tell.
    ///
    /// # Errors
    /// `InvalidValue`.
    #[doc(hidden)]
    pub fn check_planned(&self, planned: &Many<'_>) -> Result<()> {
        self.check_content(planned.content)?;
        self.parse_need(planned.len_bytes, planned.content.tail_bytes() as u64).map(drop)
    }
}

impl Reader {
    /// The next frame, once there is one, and those after it that are there by now: `most` in all, and one at the least.
    ///
    /// # Errors
    /// As [`Self::get`], where there is not one. What goes wrong after the first frame is told by the next call.
    pub fn get_many(&self, most: usize, deadline: &Deadline) -> Result<Vec<Frame>> {
        let mut frames = vec![self.get(deadline)?];
        self.take_more(&mut frames, most);
        Ok(frames)
    }

    /// Adds to `frames` what is there by now, until they are `most`.
    #[doc(hidden)]
    pub fn take_more(&self, frames: &mut Vec<Frame>, most: usize) {
        // BOUND: `most`. What there is to say of the end, of a death or of damage is found again by the next call.
        while frames.len() < most
            && let Ok(Some(frame)) = self.get_soon(Duration::ZERO)
        {
            frames.push(frame);
        }
    }
}
