//! Descriptions of arrays that come from elsewhere, and the arrays that they say are in a block: each byte that is copied
//! out is the one that a plain loop finds, and it lies inside.

use crate::arena::{Arena, Deadline, Heap, Hold};
use crate::array::{Array, Description, Token};
use crate::error::Kind;
use crate::gather;
use crate::layout::{Index, Layout};
use crate::prim::Ordering::Relaxed;
use std::sync::Arc;

const BLOCK_BYTES: usize = 4096;
/// A plain loop goes over no more bytes.
const MOST_BYTES: usize = 1 << 16;

thread_local! {
    /// The block in which arrays are said to be. Nobody writes it after it was made.
    static BLOCK: (Hold, Arc<Arena>, Arc<Heap>) = {
        let (arena, heap) = Arena::create_on_heap(4 << 20).expect("an arena");
        let block = arena.alloc(BLOCK_BYTES, 64, true, &Deadline::never()).expect("a block");
        block.words().iter().zip(0..).for_each(|(word, at)| word.store(u64::from_le_bytes(pattern(at)), Relaxed));
        (block, arena, heap)
    };
}

fn pattern(word: u64) -> [u8; 8] {
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
}

fn byte_at(offset: isize) -> u8 {
    let offset = usize::try_from(offset).expect("no byte lies before the block");
    assert!(offset < BLOCK_BYTES, "no byte lies behind the block: {offset}");
    pattern(offset as u64 / 8)[offset % 8]
}

/// A reference as bytes and as text, and the array that it opens.
pub fn token(data: &[u8]) -> bool {
    let text = std::str::from_utf8(data).ok().and_then(|text| text.parse::<Token>().ok());
    let Some(token) = Token::decode(data).ok().or(text) else { return false };
    assert_eq!(Token::decode(&token.encode()).as_ref(), Ok(&token));
    assert_eq!(token.to_string().parse::<Token>().as_ref(), Ok(&token));
    let _ = (token.key(), token.is_array());
    BLOCK.with(|(block, arena, _)| {
        // As a receiver does: what the token names is looked up, and the rest of it must fit what is there.
        let _ = token.open_in(arena, &Deadline::now());
        let opened = Array::of_parts(block.clone(), token.offset, token.description.clone(), token.is_readonly);
        opened.iter().for_each(check);
    });
    true
}

/// A description as bytes behind the place of the first item in two, and what is taken of it behind that.
pub fn layout(data: &[u8]) -> bool {
    let [low, high, start, stop, step, description @ ..] = data else { return false };
    let Ok(description) = Description::decode(description) else { return false };
    assert_eq!(Description::decode(&description.encode()).as_ref(), Ok(&description));
    let offset = u64::from(u16::from_le_bytes([*low, *high]));
    BLOCK.with(|(block, ..)| {
        let Ok(array) = Array::of_parts(block.clone(), offset, description, true) else { return false };
        check(&array);
        let (start, stop) = (Some(isize::from(*start as i8)), Some(isize::from(*stop as i8)));
        for first in [Index::Slice { start, stop, step: isize::from(*step as i8) }, Index::At(isize::from(*step as i8))]
        {
            array.view(&[first]).iter().for_each(check);
        }
        let axes: Vec<usize> = (0..array.ndim()).rev().collect();
        array.transpose(&axes).iter().for_each(check);
        let _ = (array.field("x").map(|part| check(&part)), array.view_as(crate::Number::U16).map(|part| check(&part)));
        true
    })
}

/// Compares an array with a plain loop: over the layout, and by the plans of `gather`.
fn check(array: &Array) {
    let size = array.element().size();
    if Layout::contiguous(array.shape(), size).is_err() {
        // Views of one item many times may say so, and arrays without items that have long axes.
        assert_eq!(array.to_bytes().unwrap_err().kind(), Kind::InvalidValue, "{array:?}");
        return;
    }
    if array.len().max(array.len().saturating_mul(size)) > MOST_BYTES {
        return;
    }
    let expected = items(array).flat_map(|at| (0..size as isize).map(move |byte| byte_at(at + byte)));
    let expected: Vec<u8> = expected.collect();
    assert_eq!(array.to_bytes().as_ref(), Ok(&expected), "{array:?}");
    let arena = array.hold().arena();
    let joined = gather::concatenate(&[array, array], 0, None);
    let doubled: Vec<usize> =
        array.shape().iter().enumerate().map(|(axis, &len)| len << usize::from(axis == 0)).collect();
    let can_be = array.ndim() > 0 && Layout::contiguous(&doubled, size).is_ok();
    assert_eq!(joined.is_ok(), can_be, "{array:?} {joined:?}");
    if let Ok(joined) = joined {
        assert_eq!(joined.to_bytes().as_ref(), Ok(&[&expected[..], &expected].concat()), "{array:?}");
    }
    if let Ok(copied) = Array::empty(arena, array.shape(), array.element().clone()) {
        gather::copy(&copied, array).expect("a copy of the same shape and type");
        assert_eq!(copied.to_bytes().as_ref(), Ok(&expected), "{array:?}");
    }
}

/// Where each item is, in C order.
fn items(array: &Array) -> impl Iterator<Item = isize> {
    let (layout, first) = (array.layout().clone(), array.offset() as isize);
    (0..array.len()).map(move |item| {
        let mut rest = item;
        let mut index: Vec<usize> =
            layout.shape().iter().rev().map(|&length| (rest % length, rest /= length).0).collect();
        index.reverse();
        first + layout.offset_of(&index).expect("an item of the array")
    })
}
