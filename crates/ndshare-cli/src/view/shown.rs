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
    /// Nobody writes to it: it is a published frame.
    Shared(Array),
    /// The items in C order.
    Own(Vec<u8>),
}

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
}
