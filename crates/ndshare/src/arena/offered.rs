//! The data of another user's arena, as far as this process has been let to read them: mapped without write permission, and
//! without the control part. So there are no blocks here that could be held, only places that somebody named; and whatever
//! stands at one may change at any moment.

use super::control::GRANULE_BYTES;
use super::ids::BlockId;
use super::look::AnyBlock;
use crate::error::{ArenaFull, Error, Result};
use crate::kernel::{Cpu, Rows, Stores, copy_rows};
use crate::layout::{Layout, human};
use crate::os::memory::Mapping;
use crate::os::offers::check_file;
use crate::prim::AtomicU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The data of another user's arena, to be read only.
#[derive(Debug)]
pub struct OfferedData {
    mapping: Mapping,
}

/// A part of it that begins where a block may.
#[derive(Debug, Clone)]
pub struct OfferedBlock {
    data: Arc<OfferedData>,
    place: u64,
    len_bytes: u64,
}

impl OfferedData {
    /// Maps the file of `len_bytes` that `uid` handed over.
    ///
    /// # Errors
    /// `Attach` for a file whose pages could be taken away, that could be written, or that is not as it was told;
    /// `ArenaFull` when the address space has no room for it.
    pub(crate) fn map(file: &OwnedFd, uid: u32, len_bytes: u64) -> Result<Arc<Self>> {
        check_file(file.as_fd(), uid, len_bytes)?;
        if len_bytes == 0 || len_bytes > i64::MAX as u64 {
            return Err(Error::attach(format!("expected the data of an arena, got {len_bytes} bytes")));
        }
        Ok(Arc::new(Self { mapping: Mapping::of_offered(file.as_fd(), len_bytes)? }))
    }

    /// The length in bytes.
    pub fn len_bytes(&self) -> usize {
        self.mapping.len_bytes() as usize
    }

    /// The first byte, to be read only.
    pub fn as_ptr(&self) -> *const u8 {
        self.mapping.base().as_ptr()
    }

    /// The part of `len_bytes` at `place`.
    ///
    /// # Errors
    /// `Attach` for one that does not lie inside, or begins where no block does.
    pub(crate) fn block(self: &Arc<Self>, place: u64, len_bytes: u64) -> Result<OfferedBlock> {
        let is_inside = place.checked_add(len_bytes).is_some_and(|end| end <= self.mapping.len_bytes());
        if is_inside && place.is_multiple_of(GRANULE_BYTES) && len_bytes.is_multiple_of(GRANULE_BYTES) && len_bytes > 0
        {
            return Ok(OfferedBlock { data: self.clone(), place, len_bytes });
        }
        Err(Error::attach(format!(
            "expected a block inside {} bytes of data, got {len_bytes} bytes at {place}: who offers it contradicts itself",
            self.len_bytes()
        )))
    }

    /// A copy of the bytes that an array reaches whose first item is at `first`. They may change meanwhile.
    ///
    /// # Errors
    /// `InvalidValue` for an array that does not lie inside; `ArenaFull` when there is no memory for it.
    pub(crate) fn copy(&self, first: u64, layout: &Layout, itemsize: usize) -> Result<Copied> {
        layout.check_inside(first, itemsize, self.len_bytes())?;
        let (low, high) = layout.extent(itemsize).unwrap_or_default();
        // Inside, as just checked: so neither sum is below nothing or beyond an `isize`.
        let (start, len) = (first.wrapping_add_signed(low as i64) as usize, (high - low) as usize);
        let lead = start % size_of::<Line>();
        let mut lines = Vec::<Line>::new();
        let count = (lead + len).div_ceil(size_of::<Line>()).max(1);
        lines.try_reserve_exact(count).map_err(|_| no_memory(len))?;
        let cpu = Cpu::chosen()?;
        let rows = Rows { rows: 1, run: len, dst_row: 0, src_row: 0 };
        let to = lines.as_mut_ptr().cast::<u8>();
        // SAFETY: the vector has room for `count` lines, of which the bytes before and behind are made zero and the others
        // copied, so all of them are filled; the source lies inside the mapping, as just checked, and is read by a mover of
        // bytes, whatever others write there meanwhile. The two do not overlap: one is memory of this process alone.
        unsafe {
            to.write_bytes(0, lead);
            copy_rows(cpu, Stores::Vector, to.add(lead), self.as_ptr().add(start), &rows);
            to.add(lead + len).write_bytes(0, count * size_of::<Line>() - lead - len);
            lines.set_len(count);
        }
        Ok(Copied { lines, first: lead + low.unsigned_abs() })
    }
}

/// The error of a copy in memory of this process alone that there is no room for.
#[cold]
pub(crate) fn no_memory(len: usize) -> Error {
    let message = format!("no memory for a copy of {}: free memory on this machine", human(len as u64));
    ArenaFull { needed_bytes: Some(len as u64), ..ArenaFull::saying(message) }.into()
}

/// A cache line, at whose alignment copies begin.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that an array reaches, in memory of this process. Their alignment is what it was.
#[derive(Debug)]
pub struct Copied {
    lines: Vec<Line>,
    /// Where the first item is.
    first: usize,
}

impl Copied {
    /// The bytes, and where in them the first item is.
    pub fn bytes(&self) -> (&[u8], usize) {
        let len = self.lines.len() * size_of::<Line>();
        // SAFETY: lines are 64 bytes each, without padding, and all of them are filled.
        (unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), len) }, self.first)
    }
}

impl OfferedBlock {
    /// The data that it is a part of.
    pub(crate) fn data(&self) -> &Arc<OfferedData> {
        &self.data
    }

    /// Where it begins in them.
    pub(crate) fn place(&self) -> u64 {
        self.place
    }

    /// Its length.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes as usize
    }
}

impl AnyBlock for OfferedBlock {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the part lies inside the mapping, which lives as long as `self`, and begins at a multiple of 8. It is mapped
        // to be read: whoever has these words loads them, and a load of 64 bits is a plain one on both kinds of CPU.
        unsafe {
            let first = self.data.as_ptr().add(self.place as usize).cast::<AtomicU64>();
            std::slice::from_raw_parts(first, self.len_bytes as usize / size_of::<AtomicU64>())
        }
    }

    /// Nothing has a name here.
    fn block(&self) -> BlockId {
        BlockId { index: 0, generation: 0 }
    }

    fn sibling(&self, _block: BlockId) -> Option<Self> {
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Arena;
    use crate::arena::{Deadline, Options};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn data_of_another_are_read_where_a_block_lies_and_nowhere_else() {
        let options = Options { budget_bytes: Some(8 << 20), mode: Some(0o640), ..Options::default() };
        let arena = Arena::create(&options).unwrap();
        let _first = arena.alloc(5000, 64, true, &Deadline::never()).unwrap();
        let held = arena.alloc(5000, 64, true, &Deadline::never()).unwrap();
        held.words()[1].store(7, crate::prim::Ordering::Relaxed);
        let (file, len) = arena.open_data().unwrap().unwrap();
        let uid = std::fs::File::from(file.try_clone().unwrap()).metadata().unwrap().uid();
        let data = OfferedData::map(&file, uid, len).unwrap();
        assert_eq!((arena.mode(), data.len_bytes() as u64, held.place() > 0), (Some(0o640), len, true));
        let block = data.block(held.place(), held.len_bytes() as u64).unwrap();
        assert_eq!(block.words()[1].load(crate::prim::Ordering::Relaxed), 7);
        let layout = Layout::new(vec![2], vec![-8]).unwrap();
        let copied = data.copy(held.place() + 8, &layout, 8).unwrap();
        let (bytes, first) = copied.bytes();
        assert_eq!((bytes[first], bytes[first - 8], bytes.as_ptr().addr() % 64), (7, 0, 0));

        for (place, len_bytes) in [(8, 1024), (0, 0), (0, 8), (len, 1024), (u64::MAX - 1023, 1024), (0, len + 1024)] {
            assert!(data.block(place, len_bytes).is_err(), "{len_bytes} at {place}");
        }
        for (first, stride) in [(len, 8), (0, -8), (len - 8, 8), (u64::MAX, 8), (0, isize::MAX)] {
            assert!(data.copy(first, &Layout::new(vec![2], vec![stride]).unwrap(), 8).is_err(), "{stride} at {first}");
        }
        assert!(OfferedData::map(&file, uid + 1, len).is_err() && OfferedData::map(&file, uid, len + 4096).is_err());
        let own = Arena::create(&Options { mode: None, ..options }).unwrap();
        assert!(own.open_data().unwrap().is_none() && own.mode().is_none());
        assert!(Arena::create(&Options { mode: Some(0o660), ..options }).is_err());
    }
}
