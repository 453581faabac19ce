//! Every mover on every kind of CPU that this machine is, against a naive twin, over random geometry.

use super::cpu::present;
use super::*;
use crate::dice::Dice;
use crate::element::Number;

const ALL_STORES: [Stores; 3] = [Stores::Vector, Stores::Text, Stores::Stream];

fn rounds() -> usize {
    if cfg!(miri) { 3 } else { 400 }
}

/// Moves item by item, byte by byte.
fn naive(dst: &mut [u8], src: &[u8], dst_at: usize, src_at: usize, items: &Items) {
    for row in 0..items.rows as isize {
        for i in 0..items.count as isize {
            let to = dst_at.checked_add_signed(row * items.dst_row + i * items.dst_step).unwrap();
            let from = src_at.checked_add_signed(row * items.src_row + i * items.src_step).unwrap();
            dst[to..to + items.size].copy_from_slice(&src[from..from + items.size]);
        }
    }
}

/// Where a block starts so that it fits a buffer, and how long the buffer must be.
fn place(rows: usize, count: usize, size: usize, row: isize, step: isize, shift: usize) -> (usize, usize) {
    let reach = |len: usize, step: isize| (len as isize - 1) * step;
    let (a, b) = (reach(rows, row), reach(count, step));
    let low = a.min(0) + b.min(0);
    let high = a.max(0) + b.max(0) + size as isize;
    (low.unsigned_abs() + shift, low.unsigned_abs() + shift + high as usize + 64)
}

/// A stretch of memory that starts at a multiple of 128, so that shifts are misalignments.
fn aligned(buffer: &mut [u8]) -> usize {
    buffer.as_ptr().addr().wrapping_neg() % 128
}

#[test]
fn rows_are_copied_as_the_twin_copies_them() {
    let mut dice = Dice(1);
    for cpu in Cpu::all() {
        for _ in 0..rounds() {
            let run = match dice.below(3) {
                0 => 1 + dice.below(80),
                1 => 1 + dice.below(700),
                _ => 1 + dice.below(9000),
            };
            let rows = 1 + dice.below(5);
            let dst_row = (run + dice.below(100)) as isize;
            let src_row = dice.pick(&[run as isize, (run + 7) as isize, -(run as isize) - 3, 0]);
            check_rows(&mut dice, cpu, &Rows { rows, run, dst_row, src_row });
        }
    }
}

fn check_rows(dice: &mut Dice, cpu: Cpu, rows: &Rows) {
    let Rows { rows: n, run, dst_row, src_row } = *rows;
    let (dst_at, dst_len) = place(n, 1, run, dst_row, 0, dice.below(128));
    let (src_at, src_len) = place(n, 1, run, src_row, 0, dice.below(128));
    let src = dice.bytes(src_len);
    let mut buffer = dice.bytes(dst_len + 128);
    let base = aligned(&mut buffer);
    let mut expected = buffer.clone();
    let items = Items { rows: n, count: 1, size: run, dst_row, src_row, dst_step: 0, src_step: 0 };
    naive(&mut expected[base..], &src, dst_at, src_at, &items);
    for stores in ALL_STORES {
        let mut got = buffer.clone();
        // The clone lies elsewhere; the misalignment is that of its own place.
        let base = base.min(got.len() - dst_len);
        // SAFETY: `place` keeps every row inside the two buffers, which are different ones.
        unsafe { copy_rows(cpu, stores, got.as_mut_ptr().add(base + dst_at), src.as_ptr().add(src_at), rows) };
        fence();
        assert!(got == expected, "{cpu:?} {stores:?} {rows:?} dst+{dst_at} src+{src_at}");
    }
}

/// Rows of whole lines, as they are taken four at a time: from pages of a row, from neighbours, and from quarters.
#[test]
fn rows_of_whole_lines_are_copied_as_the_twin_copies_them() {
    let mut dice = Dice(6);
    for cpu in Cpu::all() {
        for _ in 0..rounds() / 4 {
            let (most, rows) = dice.pick(&[(8, 70), (80, 20), (400, 3)]);
            let run = LINE * (1 + dice.below(most));
            let dst_row = (run + LINE * dice.below(3)) as isize;
            let src_row = dice.pick(&[run as isize, run as isize, (run + 7) as isize, 0, -(run as isize)]);
            let rows = Rows { rows: 1 + dice.below(rows), run, dst_row, src_row };
            check_whole_lines(&mut dice, cpu, &rows);
        }
    }
}

fn check_whole_lines(dice: &mut Dice, cpu: Cpu, rows: &Rows) {
    let Rows { rows: n, run, dst_row, src_row } = *rows;
    let (dst_at, dst_len) = place(n, 1, run, dst_row, 0, 0);
    let (src_at, src_len) = place(n, 1, run, src_row, 0, dice.below(128));
    let sources: [Vec<u8>; 4] = std::array::from_fn(|_| dice.bytes(src_len));
    let items = Items { rows: n, count: 1, size: run, dst_row, src_row, dst_step: 0, src_step: 0 };
    let mut buffers: [Vec<u8>; 4] = std::array::from_fn(|_| dice.bytes(dst_len + 128));
    let starts: [usize; 4] = std::array::from_fn(|tile| aligned(&mut buffers[tile]) + dst_at);
    let mut expected = buffers.clone();
    (0..4).for_each(|tile| naive(&mut expected[tile], &sources[tile], starts[tile], src_at, &items));
    let before = buffers.clone();
    let dst = std::array::from_fn(|tile| buffers[tile].as_mut_ptr().wrapping_add(starts[tile]));
    let src = std::array::from_fn(|tile| sources[tile].as_ptr().wrapping_add(src_at));
    // SAFETY: `place` keeps every row inside the buffers, which are different ones.
    unsafe { stream_tiles(cpu, dst, src, rows) };
    fence();
    assert!(buffers == expected, "{cpu:?} {rows:?}: tiles");
    for cpu in [cpu.as_intels(true), cpu.as_intels(false)] {
        buffers[0].copy_from_slice(&before[0]);
        // SAFETY: as above.
        unsafe { copy_rows(cpu, Stores::Stream, buffers[0].as_mut_ptr().add(starts[0]), src[0], rows) };
        fence();
        assert!(buffers[0] == expected[0], "{cpu:?} {rows:?}");
    }
}

#[test]
fn every_misalignment_is_right() {
    let mut dice = Dice(2);
    let src = dice.bytes(2048);
    let step = if cfg!(miri) { 61 } else { 1 };
    for cpu in Cpu::all() {
        for stores in ALL_STORES {
            for shift in (0..128).step_by(step) {
                for run in [1, 15, 31, 63, 64, 65, 127, 128, 200, 255, 256, 257, 640] {
                    let mut buffer = vec![0_u8; 1024 + 128];
                    let base = aligned(&mut buffer) + shift;
                    let rows = Rows { rows: 1, run, dst_row: 0, src_row: 0 };
                    let from = (shift * 7) % 128;
                    // SAFETY: shift, misalignment and run together stay inside both buffers.
                    unsafe { copy_rows(cpu, stores, buffer.as_mut_ptr().add(base), src.as_ptr().add(from), &rows) };
                    fence();
                    let end = base + run;
                    assert!(buffer[base..end] == src[from..from + run], "{cpu:?} {stores:?} {run} +{shift}");
                    assert!(buffer[..base].iter().chain(&buffer[end..]).all(|&byte| byte == 0));
                }
            }
        }
    }
}

#[test]
fn items_are_copied_as_the_twin_copies_them() {
    let mut dice = Dice(3);
    for cpu in Cpu::all() {
        for _ in 0..rounds() {
            let size = dice.pick(&[1, 2, 3, 4, 5, 8, 12, 16, 24]);
            let (rows, count) = (1 + dice.below(40), 1 + dice.below(70));
            let unit = size as isize;
            let dst_step = dice.pick(&[unit, unit, 2 * unit, unit + 1]);
            let dst_row = dst_step * count as isize + dice.below(9) as isize;
            let src_step = dice.pick(&[unit, -unit, 2 * unit, 3 * unit, 4 * unit, -2 * unit, 0, 77 * unit]);
            let src_row = dice.pick(&[unit, 0, src_step * count as isize, -unit]);
            check_items(&mut dice, cpu, &Items { rows, count, size, dst_row, src_row, dst_step, src_step });
        }
    }
}

fn check_items(dice: &mut Dice, cpu: Cpu, items: &Items) {
    let Items { rows, count, size, dst_row, src_row, dst_step, src_step } = *items;
    let (dst_at, dst_len) = place(rows, count, size, dst_row, dst_step, dice.below(128));
    let (src_at, src_len) = place(rows, count, size, src_row, src_step, dice.below(128));
    let src = dice.bytes(src_len);
    let mut got = dice.bytes(dst_len);
    let mut expected = got.clone();
    naive(&mut expected, &src, dst_at, src_at, items);
    // SAFETY: `place` keeps every item inside the two buffers, which are different ones.
    unsafe { copy_items(cpu, got.as_mut_ptr().add(dst_at), src.as_ptr().add(src_at), items) };
    assert!(got == expected, "{cpu:?} {items:?}");
}

/// What a conversion must give, one number at a time.
fn naive_convert(from: Number, to: Number, bytes: &[u8]) -> Vec<u8> {
    let mut word = [0_u8; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let raw = u64::from_le_bytes(word);
    let whole: i128 = match from {
        Number::U8 | Number::U16 | Number::U32 | Number::U64 => raw.into(),
        Number::I8 => (raw as u8 as i8).into(),
        Number::I16 => (raw as u16 as i16).into(),
        Number::I32 => (raw as u32 as i32).into(),
        Number::I64 => (raw as i64).into(),
        Number::F32 => return f64::from(f32::from_bits(raw as u32)).to_le_bytes().to_vec(),
        Number::Bf16 => {
            let float = f32::from_bits((raw as u32) << 16);
            return match to {
                Number::F32 => float.to_le_bytes().to_vec(),
                _ => f64::from(float).to_le_bytes().to_vec(),
            };
        }
        other => unreachable!("nothing is cast from {other:?}"),
    };
    match to {
        Number::F32 => (whole as f32).to_le_bytes().to_vec(),
        Number::F64 => (whole as f64).to_le_bytes().to_vec(),
        _ => whole.to_le_bytes()[..to.size()].to_vec(),
    }
}

#[test]
fn numbers_are_converted_as_the_twin_converts_them() {
    let mut dice = Dice(4);
    let pairs = Number::ALL.iter().flat_map(|&from| Number::ALL.iter().map(move |&to| (from, to)));
    let mut seen = 0;
    for (from, to) in pairs {
        let Some(cast) = Cast::new(from, to) else { continue };
        seen += 1;
        let count = 150;
        let mut src = dice.bytes(count * from.size() + 1);
        // The extremes, and numbers that a float rounds.
        src[1..1 + from.size()].fill(0xff);
        src[1 + from.size()..1 + 2 * from.size()].fill(0x7f);
        let expected: Vec<u8> =
            src[1..].chunks_exact(from.size()).flat_map(|number| naive_convert(from, to, number)).collect();
        for cpu in Cpu::all() {
            let mut got = vec![0_u8; count * to.size() + 3];
            // SAFETY: both buffers have `count` numbers from their odd offsets on.
            unsafe { convert(cpu, cast, got.as_mut_ptr().add(3), src.as_ptr().add(1), count) };
            assert!(same_numbers(&got[3..], &expected, to), "{cpu:?} {cast:?}");
        }
    }
    assert_eq!(seen, 41 + 24 + 2, "pairs with a kernel");
}

#[test]
fn rows_are_converted_past_the_cache_as_the_twin_converts_them() {
    let mut dice = Dice(5);
    let pairs = Number::ALL.iter().flat_map(|&from| Number::ALL.iter().map(move |&to| (from, to)));
    let casts: Vec<_> = pairs.filter_map(|(from, to)| Some((from, to, Cast::new(from, to)?))).collect();
    for cpu in Cpu::all() {
        for _ in 0..rounds() {
            let (from, to, cast) = dice.pick(&casts);
            let run = match dice.below(3) {
                0 => 1 + dice.below(40),
                _ => 1 + dice.below(600),
            };
            let (gap, src_gap) = (dice.below(20) * dice.pick(&[1, to.size()]), dice.below(20));
            let dst_row = (run * to.size() + gap) as isize;
            let src_row = dice.pick(&[run * from.size(), run * from.size() + src_gap]) as isize;
            let rows = Rows { rows: 1 + dice.below(20), run, dst_row, src_row };
            check_converted(&mut dice, cpu, (from, to, cast), &rows);
        }
    }
}

fn check_converted(dice: &mut Dice, cpu: Cpu, (from, to, cast): (Number, Number, Cast), rows: &Rows) {
    let Rows { rows: n, run, dst_row, src_row } = *rows;
    let (_, dst_len) = place(n, 1, run * to.size(), dst_row, 0, 0);
    let (_, src_len) = place(n, 1, run * from.size(), src_row, 0, 0);
    let src = dice.bytes(src_len);
    let mut got = dice.bytes(dst_len + 256);
    // Mostly where a number of this size may begin.
    let at = aligned(&mut got) + dice.below(128 / to.size()) * to.size() + usize::from(dice.below(8) == 0);
    let before = got.clone();
    // SAFETY: `place` keeps every row inside the two buffers, which are different ones.
    unsafe { stream_converted(cpu, cast, got.as_mut_ptr().add(at), src.as_ptr(), rows) };
    fence();
    let mut is_row = vec![false; got.len()];
    for row in 0..n {
        let (to_at, from_at) = (at + row * dst_row as usize, row * src_row as usize);
        let numbers = src[from_at..from_at + run * from.size()].chunks_exact(from.size());
        let expected: Vec<u8> = numbers.flat_map(|number| naive_convert(from, to, number)).collect();
        let range = to_at..to_at + expected.len();
        assert!(same_numbers(&got[range.clone()], &expected, to), "{cpu:?} {cast:?} {rows:?} +{at} row {row}");
        is_row[range].fill(true);
    }
    assert!(
        (0..got.len()).all(|i| is_row[i] || got[i] == before[i]),
        "{cpu:?} {cast:?} {rows:?} +{at}: beside the rows"
    );
}

/// NaNs are equal here: which bits of one are kept is the CPU's affair.
fn same_numbers(got: &[u8], expected: &[u8], to: Number) -> bool {
    let is_nan = |bytes: &[u8]| match to {
        Number::F32 => f32::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
        Number::F64 => f64::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
        _ => false,
    };
    let pairs = got.chunks_exact(to.size()).zip(expected.chunks_exact(to.size()));
    pairs.into_iter().all(|(a, b)| a == b || is_nan(a) && is_nan(b))
}

#[test]
fn a_cpu_is_chosen_by_name() {
    assert_eq!(present("scalar"), Ok(0));
    let error = present("quantum").unwrap_err().to_string();
    assert!(error.contains("scalar") && error.contains("quantum"), "{error}");
    assert!(cfg!(miri) || Cpu::all().len() > 1, "this machine has vectors");
    assert!(!Cpu::of(Level::Scalar).unwrap().streams());
}
