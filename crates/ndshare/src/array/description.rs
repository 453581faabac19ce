//! What an array is, without where: its layout and its element, as bytes beside a block's name.

use crate::element::Element;
use crate::error::{Error, Result};
use crate::layout::{Layout, MAX_DIMS};
use crate::varint::{Reader, push, push_signed};

/// The layout of an array and what its items are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// How the items lie.
    pub layout: Layout,
    /// What an item is; none where the context says so, as a ring does of its own frames.
    pub element: Option<Element>,
}

impl Description {
    /// As bytes, never none: the number of axes, lengths and strides as LEB128 numbers, then the element's text.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 5 * self.layout.ndim());
        push(&mut out, self.layout.ndim() as u64);
        push_layout(&mut out, &self.layout);
        push_element(&mut out, self.element.as_ref());
        out
    }

    /// The description in `bytes`.
    ///
    /// # Errors
    /// `InvalidValue` when the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let parse = || {
            let ndim = reader.small()?;
            Some(Self { layout: take_layout(&mut reader, ndim)?, element: take_element(&mut reader)? })
        };
        let mut parse = parse;
        parse().ok_or_else(|| {
            Error::value(format!("expected the description of an array, got {} other bytes", bytes.len()))
        })
    }
}

pub(super) fn push_layout(out: &mut Vec<u8>, layout: &Layout) {
    layout.shape().iter().for_each(|&length| push(out, length as u64));
    layout.strides().iter().for_each(|&stride| push_signed(out, stride as i64));
}

pub(super) fn push_element(out: &mut Vec<u8>, element: Option<&Element>) {
    out.extend(element.map(Element::to_string).unwrap_or_default().as_bytes());
}

pub(super) fn take_layout(reader: &mut Reader<'_>, ndim: usize) -> Option<Layout> {
    (ndim <= MAX_DIMS).then_some(())?;
    let shape = (0..ndim).map(|_| reader.small()).collect::<Option<_>>()?;
    let strides = (0..ndim).map(|_| reader.signed()).collect::<Option<_>>()?;
    Layout::new(shape, strides).ok()
}

/// The element that is all of the rest; `Some(None)` where there is nothing.
pub(super) fn take_element(reader: &mut Reader<'_>) -> Option<Option<Element>> {
    match std::str::from_utf8(reader.rest()).ok()? {
        "" => Some(None),
        text => text.parse().ok().map(Some),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn descriptions_survive_bytes_and_noise_is_no_panic() {
        let layout = Layout::new(vec![0, 7, 1 << 40], vec![-2, 8, 0]).unwrap();
        for text in ["<u2", "[('é', '<f4', )]", "bfloat16"] {
            let description = Description { layout: layout.clone(), element: text.parse().ok() };
            let bytes = description.encode();
            assert_eq!(Description::decode(&bytes).unwrap(), description);
            for len in 0..bytes.len() {
                assert_ne!(Description::decode(&bytes[..len]).ok(), Some(description.clone()), "{len}");
            }
            for (at, noise) in (0..bytes.len()).flat_map(|at| (0..=255).map(move |noise| (at, noise))) {
                let mut bytes = bytes.clone();
                bytes[at] = noise;
                let _ = Description::decode(&bytes);
            }
        }
        assert_eq!(Description::decode(&Description::default().encode()).unwrap(), Description::default());
        assert!(Description::decode(&[]).is_err() && Description::decode(&[65]).is_err());
    }
}
