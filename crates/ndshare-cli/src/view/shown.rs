//! A frame that is looked at, or an array at one moment: bytes in shared memory or of this process's own, read part by part.

use std::ops::Range;

use ndshare::layout::Index;
use ndshare::{Array, Element, Error, Kind, Result};

/// An error about something that cannot be shown.
pub(super) fn wrong(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidValue, message.into())
}

/// What is looked at.
#[derive(Debug)]
pub(super) struct Shown {
    /// The number of the frame; of an array, how often it was seen to change.
    pub(super) seq: u64,
    /// When it was published, on the monotonic clock; of an array, when it was seen.
    pub(super) time_ns: u64,
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
    data: Data,
}

#[derive(Debug)]
enum Data {
    /// A published frame, to which nobody writes; or an array, which may change while it is read.
    Shared(Array),
    /// The items in C order.
    Own(Vec<u8>),
}

/// More than this is not copied to stand still, or to be a file: who watches a stack of many GiB has no room for another one.
pub(super) const MOST_COPY_BYTES: u64 = 1 << 30;

/// Bytes that are read at a time where all of a frame is looked through: they stay in the second-level cache.
const MOST_PIECE_BYTES: usize = 64 << 10;

impl Shown {
    pub(super) fn shared(seq: u64, time_ns: u64, array: Array) -> Self {
        let (shape, element) = (array.shape().to_vec(), array.element().clone());
        Self { seq, time_ns, shape, element, data: Data::Shared(array) }
    }

    pub(super) fn own(seq: u64, time_ns: u64, shape: Vec<usize>, element: Element, bytes: Vec<u8>) -> Self {
        Self { seq, time_ns, shape, element, data: Data::Own(bytes) }
    }

    /// Which frame it is among those of its source.
    pub(super) fn id(&self) -> (u64, u64) {
        (self.seq, self.time_ns)
    }

    /// Whether it keeps memory of others.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.data, Data::Shared(_))
    }

    /// A copy to stand still. Of too many bytes there is none.
    pub(super) fn still(&self) -> Result<Self> {
        let bytes = self.len_bytes();
        if bytes > MOST_COPY_BYTES {
            return Err(wrong(format!(
                "expected at most {MOST_COPY_BYTES} bytes, of which a copy stands still, got {bytes}: look at a part of it"
            )));
        }
        self.copied()
    }

    /// A copy that keeps nothing of others.
    pub(super) fn copied(&self) -> Result<Self> {
        let whole: Vec<_> = self.shape.iter().map(|&length| 0..length).collect();
        Ok(Self::own(self.seq, self.time_ns, self.shape.clone(), self.element.clone(), self.part(&whole)?))
    }

    /// One field of the items, which are structures: its axes come behind those of the frame.
    pub(super) fn field(&self, name: &str) -> Result<Self> {
        match &self.data {
            Data::Shared(array) => Ok(Self::shared(self.seq, self.time_ns, array.field(name)?)),
            Data::Own(bytes) => {
                let found =
                    if let Element::Structure(structure) = &self.element { structure.field(name) } else { None };
                let field = found.ok_or_else(|| wrong(format!("expected a field {name:?}, got {}", self.element)))?;
                let items = bytes.chunks_exact(self.element.size().max(1));
                let own = items.map(|item| &item[field.offset..][..field.size()]).collect::<Vec<_>>().concat();
                let shape = [&self.shape[..], &field.shape].concat();
                Ok(Self::own(self.seq, self.time_ns, shape, field.element.clone(), own))
            }
        }
    }

    /// Bytes of all items.
    pub(super) fn len_bytes(&self) -> u64 {
        self.shape.iter().fold(self.element.size() as u64, |bytes, &length| bytes.saturating_mul(length as u64))
    }

    /// A number that is another one where items are others, read piece by piece: nothing is copied as a whole.
    pub(super) fn fingerprint(&self) -> Result<u64> {
        let mut print = Fingerprint::default();
        each_piece(&self.shape, self.element.size(), &mut Vec::new(), &mut |ranges| {
            self.part(ranges).map(|bytes| print.take(&bytes))
        })?;
        Ok(print.told())
    }

    /// The items of a part in C order: a range for each axis.
    pub(super) fn part(&self, ranges: &[Range<usize>]) -> Result<Vec<u8>> {
        let is_inside = |(range, &length): (&Range<usize>, &usize)| range.start <= range.end && range.end <= length;
        if ranges.len() != self.shape.len() || !ranges.iter().zip(&self.shape).all(is_inside) {
            let shape = &self.shape;
            return Err(wrong(format!("expected a part of a frame of shape {shape:?}, got {ranges:?}")));
        }
        match &self.data {
            Data::Shared(array) => {
                let index = |range: &Range<usize>| Index::from(range.start as isize..range.end as isize);
                array.view(&ranges.iter().map(index).collect::<Vec<_>>())?.to_bytes()
            }
            Data::Own(bytes) => {
                let count = ranges.iter().map(ExactSizeIterator::len).product::<usize>();
                let mut part = Vec::with_capacity(count * self.element.size());
                copy(bytes, &self.shape, ranges, self.element.size(), &mut part);
                Ok(part)
            }
        }
    }
}

/// Appends the items of a part to `to`, axis by axis.
fn copy(bytes: &[u8], shape: &[usize], ranges: &[Range<usize>], size: usize, to: &mut Vec<u8>) {
    let (Some(range), Some((_, inner))) = (ranges.first(), shape.split_first()) else {
        to.extend_from_slice(&bytes[..size]);
        return;
    };
    let step = inner.iter().product::<usize>() * size;
    let is_whole = ranges[1..].iter().zip(inner).all(|(range, &length)| *range == (0..length));
    if is_whole {
        to.extend_from_slice(&bytes[range.start * step..range.end * step]);
        return;
    }
    for index in range.clone() {
        copy(&bytes[index * step..], inner, &ranges[1..], size, to);
    }
}

/// Calls `each` with ranges of every axis that together are all items, in C order, a few at a time.
fn each_piece(
    shape: &[usize],
    size: usize,
    before: &mut Vec<Range<usize>>,
    each: &mut dyn FnMut(&[Range<usize>]) -> Result<()>,
) -> Result<()> {
    let Some((&length, inner)) = shape.split_first() else { return each(before) };
    let bytes = inner.iter().product::<usize>() * size;
    let (step, is_whole) = ((MOST_PIECE_BYTES / bytes.max(1)).max(1), bytes <= MOST_PIECE_BYTES);
    for start in (0..length).step_by(step) {
        let axes = before.len();
        before.push(start..length.min(start + step));
        if is_whole {
            before.extend(inner.iter().map(|&length| 0..length));
            each(before)?;
        } else {
            each_piece(inner, size, before, each)?;
        }
        before.truncate(axes);
    }
    Ok(())
}

/// A number made of bytes. Each word goes into one of some lanes, by steps that lose nothing: bytes that differ in one word
/// never have the same. It guards against nobody; it only tells what is new.
#[derive(Default)]
struct Fingerprint([u64; 8]);

impl Fingerprint {
    fn take(&mut self, bytes: &[u8]) {
        let (many, rest) = bytes.as_chunks::<64>();
        let mut last = [0; 64];
        last[..rest.len()].copy_from_slice(rest);
        for few in many.iter().chain([&last]) {
            for (lane, word) in self.0.iter_mut().zip(few.as_chunks::<8>().0) {
                *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            }
        }
    }

    fn told(&self) -> u64 {
        self.0.iter().fold(0, |all: u64, lane| (all ^ lane).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndshare::Number;
    use ndshare::arena::Options;

    #[test]
    fn parts_are_the_same_from_shared_and_from_own_memory() {
        let options = Options { budget_bytes: Some(16 << 20), ..Options::default() };
        let arena = ndshare::Arena::create(&options).unwrap();
        let items: Vec<u16> = (0..3 * 4 * 5).collect();
        let array = Array::from_slice(&arena, &[3, 4, 5], &items).unwrap();
        let shared = Shown::shared(7, 9, array);
        let own = shared.copied().unwrap();
        assert_eq!((own.seq, own.time_ns, own.len_bytes()), (7, 9, 120));
        for ranges in [[0..3, 0..4, 0..5], [1..2, 1..3, 2..4], [2..3, 0..4, 0..5], [0..0, 0..4, 1..2]] {
            let part = own.part(&ranges).unwrap();
            assert_eq!(part, shared.part(&ranges).unwrap());
            let [z, y, x] = ranges.clone();
            let naive = z.flat_map(|z| {
                y.clone().flat_map({
                    let x = x.clone();
                    move |y| x.clone().map(move |x| z * 20 + y * 5 + x)
                })
            });
            assert_eq!(part, naive.flat_map(|item| (item as u16).to_ne_bytes()).collect::<Vec<_>>());
        }
        assert!(own.part(&[0..3, 0..4, 0..6]).is_err() && own.part(&[0..3, 0..4]).is_err());
        let number = Shown::own(0, 0, vec![], Element::of(Number::U8), vec![5]);
        assert_eq!(number.part(&[]).unwrap(), [5]);
    }

    #[test]
    fn pieces_are_all_items_in_their_order() {
        for shape in
            [vec![], vec![0, 5], vec![200_000], vec![3, 4, 5], vec![3, 70_000], vec![2, 3, 40_000], vec![2, 2, 90_000]]
        {
            let count = shape.iter().product::<usize>();
            let items: Vec<u8> = (0..count).map(|item| (item % 251) as u8).collect();
            let shown = Shown::own(0, 0, shape.clone(), Element::of(Number::U8), items.clone());
            let mut seen = Vec::new();
            each_piece(&shape, 1, &mut Vec::new(), &mut |ranges| {
                let part = shown.part(ranges)?;
                assert!(part.len() <= MOST_PIECE_BYTES);
                seen.extend(part);
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, items, "{shape:?}");
        }
    }

    #[test]
    fn a_fingerprint_is_another_one_where_any_byte_is() {
        let of = |bytes: &[u8]| {
            Shown::own(0, 0, vec![bytes.len()], Element::of(Number::U8), bytes.to_vec()).fingerprint().unwrap()
        };
        let mut bytes = vec![7; 70_001];
        let before = of(&bytes);
        assert_eq!(of(&bytes), before);
        for at in (0..bytes.len()).step_by(977).chain([70_000, 65_535, 65_536]) {
            bytes[at] ^= 1;
            assert_ne!(of(&bytes), before, "at {at}");
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn too_much_is_not_copied() {
        let shown = Shown::own(0, 0, vec![1 << 16, 1 << 15], Element::of(Number::U8), Vec::new());
        assert!(shown.still().unwrap_err().to_string().contains("look at a part"));
    }
}
