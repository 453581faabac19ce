//! Arrays on the heap: what is written is read, views see the same bytes, and nothing reaches out of a block.

use super::*;
use crate::arena::{Arena, Deadline};
use crate::dice::Dice;
use crate::element::{Element, Number, Order};
use crate::error::Kind;
use crate::layout::Index;
use rustfft::num_complex::Complex;
use std::sync::Arc;

fn arena() -> Arc<Arena> {
    Arena::create_on_heap(16 << 20).unwrap().0
}

fn ramp(arena: &Arc<Arena>, shape: &[usize]) -> Array {
    let items: Vec<u32> = (0..shape.iter().product::<usize>() as u32).collect();
    Array::from_slice(arena, shape, &items).unwrap()
}

/// The items by `read`, one by one: the naive twin of the bulk copies.
fn one_by_one(array: &Array) -> Vec<u32> {
    let mut items = Vec::new();
    let mut index = vec![0; array.ndim()];
    if array.is_empty() {
        return items;
    }
    // BOUND: each round goes on to the next index.
    loop {
        items.push(array.read(&index).unwrap());
        let Some(axis) = (0..index.len()).rev().find(|&axis| index[axis] + 1 < array.shape()[axis]) else { break };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
    items
}

/// Strides of 0 make many items of few bytes. It was a panic, or the end of the process.
#[test]
fn more_items_than_there_is_memory_for_are_an_error() {
    let hold = arena().alloc(64, 64, true, &Deadline::never()).unwrap();
    for (length, kind) in [(1 << 60, Kind::InvalidValue), (1 << 59, Kind::ArenaFull)] {
        let layout = Layout::new(vec![length], vec![0]).unwrap();
        let description = Description { layout: layout.clone(), element: Some(Element::of(Number::U64)) };
        let array = Array::of_parts(hold.clone(), 0, description, true).unwrap();
        assert_eq!(array.to_vec::<u64>().unwrap_err().kind(), kind, "{length:#x}");
        assert_eq!(array.to_bytes().unwrap_err().kind(), kind, "{length:#x}");
        let items = access::items_in::<u64>(&[0; 64], 0, &layout, array.element());
        assert_eq!(items.unwrap_err().kind(), kind, "{length:#x}");
    }
}

#[test]
fn what_is_written_is_read() {
    let arena = arena();
    let array = Array::zeros(&arena, &[3, 4], Number::F64).unwrap();
    assert_eq!(array.to_vec::<f64>().unwrap(), [0.0; 12]);
    array.write(&[1, 2], 7.5).unwrap();
    assert_eq!(array.read::<f64>(&[1, 2]).unwrap(), 7.5);
    array.fill(-1.0).unwrap();
    assert_eq!(array.to_vec::<f64>().unwrap(), [-1.0; 12]);
    assert!(array.as_ptr().addr().is_multiple_of(ALIGN));
    assert_eq!(format!("{array:?}"), "<Array [3, 4] float64>");
    let complex = Array::from_slice(&arena, &[], &[Complex::new(1.0_f32, -2.0)]).unwrap();
    assert_eq!(complex.read::<Complex<f32>>(&[]).unwrap(), Complex::new(1.0, -2.0));
}

#[test]
fn random_views_are_copied_as_they_are_read_one_by_one() {
    let arena = arena();
    let whole = ramp(&arena, &[5, 6, 7]);
    let mut dice = Dice(1);
    for _ in 0..500 {
        let mut view = whole.clone();
        for axis in (0..view.ndim()).rev() {
            let mut index = vec![Index::ALL; view.ndim()];
            let pick = |dice: &mut Dice| (dice.roll(3) > 0).then(|| dice.roll(20) as isize - 10);
            index[axis] = match dice.roll(4) {
                0 if view.shape()[axis] > 0 => Index::At(dice.below(view.shape()[axis]) as isize),
                _ => Index::Slice {
                    start: pick(&mut dice),
                    stop: pick(&mut dice),
                    step: [-3, -2, -1, 1, 1, 2, 3][dice.below(7)],
                },
            };
            view = view.view(&index).unwrap();
        }
        let mut axes: Vec<usize> = (0..view.ndim()).collect();
        (1..axes.len()).for_each(|i| axes.swap(i, dice.below(i + 1)));
        let view = view.transpose(&axes).unwrap();
        let items = one_by_one(&view);
        assert_eq!(view.to_vec::<u32>().unwrap(), items);
        let other = Array::empty(&arena, view.shape(), Number::U32).unwrap();
        other.copy_from(&view).unwrap();
        assert_eq!(one_by_one(&other), items);
        let bytes: Vec<u8> = items.iter().flat_map(|item| item.to_ne_bytes()).collect();
        assert_eq!(view.to_bytes().unwrap(), bytes);
        let back = whole.clone();
        back.copy_from_slice(&(0..210).collect::<Vec<u32>>()).unwrap();
        let other = Array::zeros(&arena, &[5, 6, 7], Number::U32).unwrap();
        other.copy_from(&back).unwrap();
        assert_eq!(one_by_one(&other), one_by_one(&whole));
    }
}

#[test]
fn views_write_to_the_same_bytes_and_overlap_is_no_trouble() {
    let arena = arena();
    let line = ramp(&arena, &[8]);
    line.view(&[(1..).into()]).unwrap().copy_from(&line.view(&[(..7).into()]).unwrap()).unwrap();
    assert_eq!(line.to_vec::<u32>().unwrap(), [0, 0, 1, 2, 3, 4, 5, 6]);
    let backwards = line.view(&[Index::Slice { start: None, stop: None, step: -1 }]).unwrap();
    line.copy_from(&backwards).unwrap();
    assert_eq!(line.to_vec::<u32>().unwrap(), [6, 5, 4, 3, 2, 1, 0, 0]);
    backwards.copy_from_slice(&[1_u32; 8]).unwrap();
    line.view(&[Index::Slice { start: Some(1), stop: None, step: 2 }]).unwrap().fill(9_u32).unwrap();
    assert_eq!(line.to_vec::<u32>().unwrap(), [1, 9, 1, 9, 1, 9, 1, 9]);
}

#[test]
fn cells_are_the_same_items_for_all() {
    let arena = arena();
    let array = Array::zeros(&arena, &[100], Number::I16).unwrap();
    let cells = array.cells::<i16>().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..50).for_each(|place| assert!(cells.set(place, place as i16))));
        scope.spawn(|| (50..100).for_each(|place| assert!(cells.set(place, -(place as i16)))));
    });
    let expected: Vec<i16> = (0..100).map(|i| if i < 50 { i } else { -i }).collect();
    assert_eq!(cells.iter().collect::<Vec<_>>(), expected);
    assert_eq!((cells.len(), cells.get(100), cells.set(100, 1)), (100, None, false));
    let readonly = array.clone().readonly();
    assert!(!readonly.cells::<i16>().unwrap().set(0, 1));
    assert!(array.view(&[Index::Slice { start: None, stop: None, step: 2 }]).unwrap().cells::<i16>().is_err());
}

#[test]
fn built_arrays_are_what_was_made() {
    let arena = arena();
    let array =
        Array::build(&arena, &[2, 2], |items: &mut [f32]| items.copy_from_slice(&[1.0, 2.0, 3.0, 4.0])).unwrap();
    assert_eq!(array.transpose(&[1, 0]).unwrap().to_vec::<f32>().unwrap(), [1.0, 3.0, 2.0, 4.0]);
    // SAFETY: nobody writes to it.
    assert_eq!(unsafe { array.as_slice::<f32>() }.unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn other_types_shapes_and_places_are_errors() {
    let arena = arena();
    let array = ramp(&arena, &[2, 3]);
    assert_eq!(array.read::<f32>(&[0, 0]).unwrap_err().kind(), Kind::InvalidType);
    assert_eq!(array.read::<u32>(&[0, 3]).unwrap_err().kind(), Kind::InvalidValue);
    assert_eq!(array.copy_from_slice(&[0_u32; 5]).unwrap_err().kind(), Kind::InvalidValue);
    assert_eq!(array.copy_from_bytes(&[0; 23]).unwrap_err().kind(), Kind::InvalidValue);
    assert_eq!(array.copy_from(&array.transpose(&[1, 0]).unwrap()).unwrap_err().kind(), Kind::InvalidValue);
    let readonly = array.clone().readonly();
    assert_eq!(readonly.fill(0_u32).unwrap_err().kind(), Kind::Misuse);
    assert_eq!(readonly.write(&[0, 0], 0_u32).unwrap_err().kind(), Kind::Misuse);
    let swapped = Element::Number(Number::U32, if Order::NATIVE == Order::Big { Order::Little } else { Order::Big });
    let swapped = array.view_as(swapped).unwrap();
    assert_eq!(swapped.read::<u32>(&[0, 1]).unwrap_err().kind(), Kind::InvalidType);
    assert_eq!(array.view_as(Number::U16).unwrap_err().kind(), Kind::InvalidType);
    assert_eq!(array.view_as(Number::F32).unwrap().read::<f32>(&[0, 1]).unwrap().to_bits(), 1);
    assert!(Array::zeros(&arena, &[usize::MAX, 2], Number::U8).is_err());
    assert_eq!(array.to_vec::<u32>().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn descriptions_that_reach_out_of_a_block_are_refused() {
    let arena = arena();
    let hold = ramp(&arena, &[16, 16]).hold().clone();
    let len = hold.len_bytes() as u64;
    let open = |offset, shape: &[usize], strides: &[isize]| {
        let layout = Layout::new(shape.to_vec(), strides.to_vec()).unwrap();
        Array::of_parts(hold.clone(), offset, Description { layout, element: Some(Element::of(Number::U16)) }, false)
    };
    for (offset, shape, strides) in [(0, &[16, 32][..], &[64, 2][..]), (len - 2, &[512], &[-2]), (len, &[0], &[2])] {
        open(offset, shape, strides).unwrap().to_vec::<u16>().unwrap();
    }
    for (offset, shape, strides) in [
        (len - 1022, &[16, 32][..], &[64, 2][..]),
        (1020, &[512], &[-2]),
        (u64::MAX, &[1], &[2]),
        (0, &[usize::MAX >> 1], &[isize::MAX]),
        (0, &[usize::MAX, usize::MAX], &[0, 0]),
    ] {
        assert!(open(offset, shape, strides).is_err(), "{offset} {shape:?}");
    }
    let nameless = Description { layout: Layout::default(), element: None };
    assert!(Array::of_parts(hold.clone(), 0, nameless, false).is_err());
}

#[test]
fn a_token_keeps_the_array_until_it_is_opened() {
    let arena = arena();
    let forever = Deadline::never();
    let array = ramp(&arena, &[4, 4]);
    let view = array.view(&[1.into()]).unwrap().readonly();
    let token = view.token(&forever).unwrap();
    drop((array, view));
    let opened = Token::decode(&token.encode()).unwrap().open_in(&arena, &forever).unwrap();
    assert_eq!(opened.to_vec::<u32>().unwrap(), [4, 5, 6, 7]);
    assert!(opened.is_readonly());
    let again = token.open_in(&arena, &forever).unwrap();
    assert_eq!(opened.bare_reference().key(), token.key());
    drop((opened, again));
    assert_eq!(token.open_in(&arena, &forever).unwrap_err().kind(), Kind::Stale);
}
