//! Arenas in files with a path, which outlive the processes that have them.
//!
//! Whoever comes first makes the file, and gives it its name when everything is in place. Who comes later joins. Between
//! them stands the door, a lock on one byte of the file: who opens it takes that first, so that of several one alone finds
//! out that nobody has the arena, and puts it in order. Such an arena gets a new id, for names of before lead nowhere any
//! more, and a copy of a file is another arena.

use super::backing::Backing;
#[cfg(test)]
use super::backing::Heap;
use super::budget::{Limit, Options, plan};
use super::control::{ArenaSizes, HEAD_BYTES, id_in_head};
use super::deadline::Deadline;
use super::fork;
use super::join::door;
use super::state::{Arena, file_name};
use crate::error::{ArenaFull, Error, Kind, Result};
use crate::layout::human;
use crate::os::file::MemFile;
use crate::os::memory::Mapping;
use crate::os::path::{self, HAS_PATH, NewFile};
use crate::os::{limits, page_size_is_supported, random_u64};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often the file may go away just when it is to be opened.
const ROUNDS: u32 = 100;

impl Arena {
    /// The arena in the file at `path`, on a RAM drive or a disk; made with this budget if there is none. It outlives the
    /// processes that have it, and so does what has a name in it.
    ///
    /// ```
    /// use ndshare::arena::Options;
    /// use ndshare::{Arena, Array, Deadline, Number};
    ///
    /// let path = std::env::temp_dir().join(format!("doc-{}.nds", std::process::id()));
    /// let options = Options { budget_bytes: Some(64 << 20), ..Options::default() };
    /// let arena = Arena::at(&path, &options, &Deadline::never())?; // nds.Arena("64 MiB", path=path)
    /// let image = Array::zeros(&arena, &[480, 640], Number::U16)?;
    /// arena.publish("image", &image, false, &Deadline::never())?;
    /// image.fill(7_u16)?;
    /// drop((image, arena));
    /// // This process or another one, later:
    /// let arena = Arena::at(&path, &Options::default(), &Deadline::never())?;
    /// let image: Array = arena.attach_name("image", &Deadline::never())?.try_into()?;
    /// assert_eq!(image.read::<u16>(&[3, 5])?, 7);
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), ndshare::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidValue` for a mode, which only arenas in memory have, for a new one without a budget, and for one that is there with another budget, with both; `WrongKind`
    /// for a file of something else, or of another version; `Poisoned` for one that was cut or written over; `Foreign` for
    /// another user's; `Attach` for what is no regular file, or cannot be opened; `ArenaFull` when the file system has no
    /// space; `Timeout` at `deadline`.
    pub fn at(path: impl AsRef<Path>, options: &Options, deadline: &Deadline) -> Result<Arc<Self>> {
        if !page_size_is_supported() {
            return Err(Error::new(Kind::Os, "expected pages of 4 KiB: this kernel's are of another size"));
        }
        fork::watch()?;
        fork::let_go();
        if options.mode.is_some() {
            return Err(Error::value(
                "expected an arena in memory for other users to read from, got a path and a mode: leave one of them out, or \
                 give the file itself permissions",
            ));
        }
        let path = whole(path.as_ref())?;
        for _ in 0..ROUNDS {
            if let Some(file) = path::open(&path)? {
                return Self::open_file(&path, &file, options, deadline);
            }
            if let Some(made) = Self::make_file(&path, options)? {
                let made = fork::register(made)?;
                return match Self::by_its_name(&made, &path, deadline) {
                    Ok(Some(named)) => {
                        drop(made);
                        fork::register(named)
                    }
                    // What ended the wait ends the call: Ctrl-C is not to be lost.
                    Err(error) if error.kind() == Kind::Interrupted => Err(error),
                    // It is whole under the other name, too.
                    Ok(None) | Err(_) => Ok(made),
                };
            }
        }
        Err(Error::new(Kind::Misuse, format!("{} comes and goes: expected a file that stays", path.display())))
    }

    /// None: somebody else was faster.
    fn make_file(path: &Path, options: &Options) -> Result<Option<Self>> {
        let Some(budget) = options.budget_bytes else {
            return Err(Error::value(format!(
                "expected a budget for the new arena {}, for there is none yet, got none: name one such as \"1 GiB\"",
                path.display()
            )));
        };
        let (geometry, limit) = plan(options, &limits::memory_limit())?;
        if geometry.budget != budget {
            return Err(cut_short(budget, geometry.budget, limit));
        }
        let (new, id) = (NewFile::on_the_way_to(path)?, random_u64() | HAS_PATH);
        let file = MemFile::create_at(path, &new, &file_name(id), geometry.total_len())?;
        // For who comes next: a file system that lets go of locks is an error now.
        drop(door(&file, &Deadline::never())?);
        let mapping = Mapping::map(&file)?;
        // It takes part before the file has a name: nobody finds an arena that nobody has.
        let arena = Self::format(Backing::Os { file, mapping, view: None }, geometry, id, limit)?;
        Ok(new.name_it()?.then_some(arena))
    }

    /// The arena that this process has just made, opened once more, by its name: whoever finds the file through this process
    /// learns the name from `/proc`, which calls a file by what it was called when it was opened. None when the name leads
    /// elsewhere by now.
    fn by_its_name(made: &Arc<Self>, path: &Path, deadline: &Deadline) -> Result<Option<Self>> {
        let Some(file) = path::open(path)? else { return Ok(None) };
        let mine = MemFile::open_at(path, &file, &file_name(made.id))?;
        if !made.backing.is_file(&mine) {
            return Ok(None);
        }
        let _door = door(&mine, deadline)?;
        let mapping = Mapping::map(&mine)?;
        Self::share(Backing::Os { file: mine, mapping, view: None })?.settled(false).map(Some)
    }

    fn open_file(path: &Path, file: &File, options: &Options, deadline: &Deadline) -> Result<Arc<Self>> {
        let (sizes, id) = read_head(path, file)?;
        check_budget(path, &sizes, options)?;
        let mine = MemFile::open_at(path, file, &file_name(id))?;
        if let Some(arena) = fork::joined(id, false).filter(|arena| arena.backing.is_file(&mine)) {
            return Ok(arena);
        }
        let door = door(&mine, deadline)?;
        let is_alone = !Backing::has_anybody_in(&mine, sizes.participants)?;
        let id = if is_alone { renamed(path, file)? } else { read_head(path, file)?.1 };
        let mine = mine.called(file_name(id));
        let mapping = Mapping::map(&mine)?;
        let arena = Self::share(Backing::Os { file: mine, mapping, view: None })?.settled(is_alone)?;
        let arena = fork::register(arena);
        drop(door);
        arena
    }

    fn settled(self, is_alone: bool) -> Result<Self> {
        if is_alone {
            self.mend()?;
        }
        self.enter()?;
        if is_alone {
            self.clear_strays()?;
        }
        Ok(self)
    }

    /// As somebody who opens the file of a lasting arena: puts it in order if nobody has it.
    ///
    /// # Errors
    /// As [`Self::at`].
    #[cfg(test)]
    pub(crate) fn reopen_on_heap(heap: &Arc<Heap>) -> Result<Arc<Self>> {
        let arena = Self::share(Backing::Heap(heap.clone()))?;
        let is_alone = !heap.has_anybody();
        arena.settled(is_alone).map(Arc::new)
    }
}

/// The file at `path` for a look that changes nothing: its whole path, and the id of the arena in it.
///
/// # Errors
/// As [`Arena::at`]; `InvalidValue` when nothing is there.
pub(super) fn open_to_look(path: &Path) -> Result<(PathBuf, File, u64)> {
    let path = whole(path)?;
    let nothing = || Error::value(format!("expected the file of an arena at {}, got nothing there", path.display()));
    let file = path::open_to_read(&path)?.ok_or_else(nothing)?;
    let (_, id) = read_head(&path, &file)?;
    Ok((path, file, id))
}

/// The id of the lasting arena in the file to which `link` leads; none for any other file.
pub fn id_of_file(link: &Path) -> Option<u64> {
    let (head, len) = path::first_bytes::<HEAD_BYTES>(&path::open_plain(link)?).ok()?;
    id_in_head(&head).filter(|id| len == HEAD_BYTES && id & HAS_PATH != 0)
}

fn whole(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::value(format!("expected a path: {error}")))
}

fn read_head(path: &Path, file: &File) -> Result<(ArenaSizes, u64)> {
    let read = path::first_bytes::<HEAD_BYTES>(file).and_then(|(head, _)| Ok((head, file.metadata()?.len())));
    let (head, len) = read.map_err(|error| Error::os(&format!("reading {}", path.display()), error))?;
    ArenaSizes::of_file(&head, len, path)
}

/// Gives an arena that nobody has a new id.
fn renamed(path: &Path, file: &File) -> Result<u64> {
    let id = random_u64() | HAS_PATH;
    let written = path::write_id(file, id);
    written.map_err(|error| Error::os(&format!("writing to {}", path.display()), error)).map(|()| id)
}

fn check_budget(path: &Path, sizes: &ArenaSizes, options: &Options) -> Result<()> {
    match options.budget_bytes {
        Some(wanted) if wanted != sizes.budget => Err(Error::value(format!(
            "expected the budget of the arena that is in {} already, {} bytes, got {wanted}: give the same, or none",
            path.display(),
            sizes.budget
        ))),
        _ => Ok(()),
    }
}

#[cold]
fn cut_short(budget: u64, left: u64, limit: Limit) -> Error {
    let (asked, most, limit) = (human(budget), human(left), limit.name());
    let message = format!("{limit} leaves {most} for an arena of {asked} that lasts: raise the limit, or ask for less");
    let (needed_bytes, limit_bytes) = (Some(budget), Some(left));
    ArenaFull { needed_bytes, limit_bytes, limit: limit.to_owned(), ..ArenaFull::saying(message) }.into()
}
