//! Rows of contiguous bytes, for any vector.
//!
//! A row shorter than a vector is two overlapping words; a longer one is vectors and a last one that overlaps the one
//! before. Streaming takes the whole lines of a row, and leaves its edges to ordinary stores: a neighbour of another
//! tile may share those lines.

use super::moves::{LINE, PAGE, Rows, Stores};

/// A vector register: how it is loaded and stored. Nothing else is done with it.
pub(super) trait Vector: Copy {
    const BYTES: usize;

    /// # Safety
    /// `BYTES` bytes must be readable.
    unsafe fn load(from: *const u8) -> Self;

    /// # Safety
    /// `BYTES` bytes must be writable.
    unsafe fn store(self, to: *mut u8);

    /// Stores past the cache.
    ///
    /// # Safety
    /// `BYTES` bytes must be writable, at a multiple of `BYTES`.
    unsafe fn stream(self, to: *mut u8);

    /// Copies a run as the CPU's string instruction does it.
    ///
    /// # Safety
    /// `len` bytes must be readable and writable, and the two must not overlap.
    unsafe fn text(dst: *mut u8, src: *const u8, len: usize);

    /// Asks for a line that will be read soon. Any address is allowed.
    fn prefetch(line: *const u8);

    /// Asks for a line that will be read after a while, into the second-level cache. Any address is allowed.
    fn foresee(line: *const u8);

    /// Asks for a line of which a part will be written soon. Any address is allowed.
    fn claim(line: *const u8);
}

/// Sixteen bytes in whatever registers the CPU has.
#[derive(Clone, Copy)]
pub(super) struct Plain([u64; 2]);

impl Vector for Plain {
    const BYTES: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller says that the bytes are readable; any bytes are valid, at any address.
        Self(unsafe { from.cast::<[u64; 2]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller says that the bytes are writable.
        unsafe { to.cast::<[u64; 2]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut u8) {
        // SAFETY: as above.
        unsafe { self.store(to) }
    }

    #[inline(always)]
    unsafe fn text(dst: *mut u8, src: *const u8, len: usize) {
        // SAFETY: as above.
        unsafe { vectors::<Self>(dst, src, len) }
    }

    #[inline(always)]
    fn prefetch(_: *const u8) {}

    #[inline(always)]
    fn foresee(_: *const u8) {}

    #[inline(always)]
    fn claim(_: *const u8) {}
}

/// The source's next page but one is asked for, by one line of each. Within a page the CPU looks ahead by itself, but
/// not beyond, where the address must be translated anew. That is worth 2 to 5 % of a copy; asking for more lines, or
/// for each line some way ahead, gains nothing more.
const AHEAD: usize = 2 * PAGE;
/// How far ahead the edges of short rows are asked for.
const MOST_ROWS_AHEAD: usize = 8;

/// # Safety
/// As [`super::copy_rows`].
#[inline(always)]
pub(super) unsafe fn rows<V: Vector>(stores: Stores, dst: *mut u8, src: *const u8, rows: &Rows) {
    let (mut look_ahead, edges) = (LookAhead::new(rows), Edges::new(rows, rows.run));
    // SAFETY: each arm copies one run after another, which the caller vouches for.
    unsafe {
        match stores {
            Stores::Vector => each(dst, src, rows, |dst, src| vectors::<V>(dst, src, rows.run)),
            Stores::Text => each(dst, src, rows, |dst, src| V::text(dst, src, rows.run)),
            Stores::Stream if all_lines(dst, rows) => each(dst, src, rows, |dst, src| {
                look_ahead.row::<V>(src);
                stream_lines::<V>(dst, src, rows.run);
            }),
            Stores::Stream => each_row(dst, src, rows, |row, dst, src| {
                look_ahead.row::<V>(src);
                edges.claim::<V>(row, dst);
                stream::<V>(dst, src, rows.run);
            }),
        }
    }
}

#[inline(always)]
fn each(dst: *mut u8, src: *const u8, rows: &Rows, mut copy: impl FnMut(*mut u8, *const u8)) {
    each_row(dst, src, rows, |_, dst, src| copy(dst, src));
}

/// The same with the number of the row.
#[inline(always)]
pub(super) fn each_row(dst: *mut u8, src: *const u8, rows: &Rows, mut copy: impl FnMut(usize, *mut u8, *const u8)) {
    let (mut dst, mut src) = (dst, src);
    for row in 0..rows.rows {
        copy(row, dst, src);
        // The step after the last row may leave the memory; nothing is read there.
        dst = dst.wrapping_offset(rows.dst_row);
        src = src.wrapping_offset(rows.src_row);
    }
}

/// Whether every row is whole lines of the destination.
pub(super) fn all_lines(dst: *mut u8, rows: &Rows) -> bool {
    rows.run > 0 && (dst.addr() | rows.run | rows.dst_row.unsigned_abs()).is_multiple_of(LINE)
}

/// Asks for pages of the rows to come.
struct LookAhead {
    /// From a row to the place that is asked for.
    distance: isize,
    /// Bytes of a row, or of a page where every row is asked for.
    run: usize,
    /// Bytes since a page was asked for.
    since: usize,
}

impl LookAhead {
    #[inline(always)]
    fn new(rows: &Rows) -> Self {
        if rows.src_row == rows.run as isize {
            return Self { distance: AHEAD as isize, run: rows.run, since: PAGE };
        }
        let rows_ahead = (AHEAD / rows.run.max(1)).clamp(1, 2);
        Self { distance: rows_ahead as isize * rows.src_row, run: PAGE, since: PAGE }
    }

    #[inline(always)]
    fn row<V: Vector>(&mut self, src: *const u8) {
        if self.since >= PAGE {
            self.since = 0;
            V::prefetch(src.wrapping_offset(self.distance));
        }
        self.since += self.run;
    }
}

/// Asks for the first and the last line of rows to come, of which only a part is written: such a line must be read, and
/// where every row's lines lie elsewhere the CPU does not foresee them.
pub(super) struct Edges {
    /// From a row to that one.
    distance: isize,
    /// Bytes of a row.
    run: usize,
    /// The first row that has none to ask for.
    end: usize,
}

impl Edges {
    /// For rows of so many bytes.
    #[inline(always)]
    pub(super) fn new(rows: &Rows, run: usize) -> Self {
        let ahead = (PAGE / run.max(1)).clamp(1, MOST_ROWS_AHEAD);
        let distance = (ahead as isize).wrapping_mul(rows.dst_row);
        Self { distance, run, end: rows.rows.saturating_sub(ahead) }
    }

    #[inline(always)]
    pub(super) fn claim<V: Vector>(&self, row: usize, dst: *mut u8) {
        if row < self.end {
            let first = dst.wrapping_offset(self.distance);
            let end = first.wrapping_add(self.run);
            // What is written whole need not be read.
            if !first.addr().is_multiple_of(LINE) {
                V::claim(first);
            }
            if !end.addr().is_multiple_of(LINE) {
                V::claim(end);
            }
        }
    }
}

/// # Safety
/// `len` bytes must be readable and writable, and the two must not overlap.
#[inline(always)]
unsafe fn vectors<V: Vector>(dst: *mut u8, src: *const u8, len: usize) {
    if len < V::BYTES {
        // SAFETY: as the caller says.
        return unsafe { short(dst, src, len) };
    }
    let mut at = 0;
    // SAFETY: every offset plus the vector's bytes is at most `len`.
    unsafe {
        while at + 4 * V::BYTES <= len {
            four::<V>(src.add(at)).store(dst.add(at));
            at += 4 * V::BYTES;
        }
        while at + V::BYTES <= len {
            V::load(src.add(at)).store(dst.add(at));
            at += V::BYTES;
        }
        if at < len {
            V::load(src.add(len - V::BYTES)).store(dst.add(len - V::BYTES));
        }
    }
}

/// Four vectors in registers.
struct Four<V>([V; 4]);

/// # Safety
/// The bytes of four vectors must be readable.
#[inline(always)]
unsafe fn four<V: Vector>(src: *const u8) -> Four<V> {
    // SAFETY: as the caller says.
    unsafe {
        Four([V::load(src), V::load(src.add(V::BYTES)), V::load(src.add(2 * V::BYTES)), V::load(src.add(3 * V::BYTES))])
    }
}

impl<V: Vector> Four<V> {
    /// # Safety
    /// The bytes of four vectors must be writable.
    #[inline(always)]
    unsafe fn store(self, dst: *mut u8) {
        let [a, b, c, d] = self.0;
        // SAFETY: as the caller says.
        unsafe {
            a.store(dst);
            b.store(dst.add(V::BYTES));
            c.store(dst.add(2 * V::BYTES));
            d.store(dst.add(3 * V::BYTES));
        }
    }
}

/// A run of less than 64 bytes.
///
/// # Safety
/// `len` bytes must be readable and writable, and the two must not overlap.
#[inline(always)]
pub(super) unsafe fn short(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: each arm reads and writes the first and the last N bytes of a run that has at least N.
    unsafe {
        match len {
            0 => {}
            1 => dst.write(src.read()),
            2..4 => ends::<2>(dst, src, len),
            4..8 => ends::<4>(dst, src, len),
            8..16 => ends::<8>(dst, src, len),
            16..32 => ends::<16>(dst, src, len),
            _ => ends::<32>(dst, src, len),
        }
    }
}

/// Copies a run of N to 2N bytes by its two ends.
///
/// # Safety
/// As [`short`], with at least N bytes.
#[inline(always)]
unsafe fn ends<const N: usize>(dst: *mut u8, src: *const u8, len: usize) {
    let last = len - N;
    // SAFETY: both ends are inside the run; bytes have no alignment.
    unsafe {
        let (first, second) = (src.cast::<[u8; N]>().read(), src.add(last).cast::<[u8; N]>().read());
        dst.cast::<[u8; N]>().write(first);
        dst.add(last).cast::<[u8; N]>().write(second);
    }
}

/// # Safety
/// As [`vectors`].
#[inline(always)]
unsafe fn stream<V: Vector>(dst: *mut u8, src: *const u8, len: usize) {
    let head = dst.addr().wrapping_neg() % LINE;
    // SAFETY: head, lines and tail are the run in three parts.
    unsafe {
        if len < head + LINE {
            return vectors::<V>(dst, src, len);
        }
        let body = (len - head) / LINE * LINE;
        vectors::<V>(dst, src, head);
        stream_lines::<V>(dst.add(head), src.add(head), body);
        vectors::<V>(dst.add(head + body), src.add(head + body), len - head - body);
    }
}

/// One line at a time: batches of loads before batches of streaming stores are slower.
///
/// # Safety
/// As [`vectors`], with `len` and `dst` multiples of a line.
#[inline(always)]
unsafe fn stream_lines<V: Vector>(dst: *mut u8, src: *const u8, len: usize) {
    let mut at = 0;
    loop {
        let end = len.min(at + PAGE);
        while at < end {
            // SAFETY: every offset plus a vector's bytes is at most `len`, and a multiple of those bytes.
            unsafe { V::load(src.add(at)).stream(dst.add(at)) };
            at += V::BYTES;
        }
        if at == len {
            return;
        }
        V::prefetch(src.wrapping_add(at + AHEAD));
    }
}
