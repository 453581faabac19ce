//! Arenas that last: in files, what is refused and what comes back; on the heap, deaths at every labelled point with nobody
//! left.

use super::control::{ArenaSizes, Record};
use super::tests::audit;
use super::word::State;
use super::*;
use crate::error::{Error, Kind, Result};
use crate::os::random_u64;
use crate::prim::Ordering::{Relaxed, SeqCst};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const FOREVER: Deadline<'static> = Deadline::never();
const BUDGET: u64 = 8 << 20;
const ROOT_BYTES: usize = 4096;

fn sized(budget: u64) -> Options {
    Options { budget_bytes: Some(budget), ..Options::default() }
}

/// A path at which nothing is, on a disk or a RAM drive; what is there goes with it.
struct Place(PathBuf);

impl Place {
    fn each() -> Vec<Self> {
        let folders = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
        folders.iter().map(|folder| Self(folder.join(format!("ndshare-test-{:016x}", random_u64())))).collect()
    }

    fn open(&self, options: &Options) -> Result<Arc<Arena>> {
        Arena::at(&self.0, options, &FOREVER)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0).or_else(|_| fs::remove_dir(&self.0));
    }
}

/// A block that the root keeps, and names.
fn keep_one(arena: &Arc<Arena>, byte: u8) -> BlockId {
    let (root, kept) = (arena.root(ROOT_BYTES, &FOREVER).unwrap(), arena.alloc(1 << 20, 64, false, &FOREVER).unwrap());
    root.adopt(&kept, &FOREVER).unwrap();
    root.word(0).unwrap().store(kept.block().to_word(), SeqCst);
    // SAFETY: the block is held, and the test is its only writer.
    unsafe { kept.as_ptr().write_bytes(byte, kept.len_bytes()) };
    kept.block()
}

/// That block, found again, with all its bytes.
fn find_one(arena: &Arc<Arena>, byte: u8) -> Hold {
    let root = arena.root(ROOT_BYTES, &FOREVER).unwrap();
    let kept = arena.take(BlockId::from_word(root.word(0).unwrap().load(SeqCst)).unwrap()).unwrap();
    // SAFETY: the block is held, and nobody writes it now.
    let bytes = unsafe { std::slice::from_raw_parts(kept.as_ptr(), kept.len_bytes()) };
    assert!(bytes.iter().all(|&one| one == byte));
    kept
}

#[test]
fn a_file_is_made_joined_and_found_again_when_nobody_has_it() {
    for place in Place::each() {
        let arena = place.open(&sized(BUDGET)).unwrap();
        assert_eq!(arena.path(), Some(&*place.0));
        let (id, block) = (arena.id(), keep_one(&arena, 42));
        let same = place.open(&Options::default()).unwrap();
        assert!(Arc::ptr_eq(&arena, &same), "a process has it once");
        drop(alloc(&arena, 2 << 20));
        drop((arena, same));
        let facts = fs::metadata(&place.0).unwrap();
        assert_eq!(facts.mode() & 0o777, 0o600);
        let arena = place.open(&sized(BUDGET)).unwrap();
        assert_ne!(arena.id(), id, "names of before lead nowhere");
        let stats = arena.stats().unwrap();
        assert_eq!((stats.blocks, stats.warm_bytes, stats.participants.len()), (2, 0, 1));
        assert_eq!(find_one(&arena, 42).block(), block);
        // What is given back is zeros again, in the file, too.
        let fresh = arena.alloc(4 << 20, 64, true, &FOREVER).unwrap();
        assert!(fresh.words().iter().all(|word| word.load(Relaxed) == 0));
    }
}

#[test]
fn pages_go_back_to_the_file_system() {
    for place in Place::each() {
        let arena = place.open(&sized(64 << 20)).unwrap();
        let base = fs::metadata(&place.0).unwrap().blocks() * 512;
        let large = arena.alloc(32 << 20, 64, false, &FOREVER).unwrap();
        let used = || fs::metadata(&place.0).unwrap().blocks() * 512 - base;
        assert!(used() >= 32 << 20, "{}", used());
        drop(large);
        arena.make_room(u64::MAX, &FOREVER).unwrap();
        assert!(used() < 1 << 20, "{}", used());
    }
}

#[test]
fn a_copy_of_a_file_is_an_arena_of_its_own() {
    for place in Place::each() {
        let copy = Place(place.0.with_extension("copy"));
        let arena = place.open(&sized(1 << 20)).unwrap();
        let file = OpenOptions::new().write(true).create_new(true).open(&copy.0).unwrap();
        let len = fs::metadata(&place.0).unwrap().len();
        file.set_len(len).unwrap();
        let mut head = [0; 4096];
        let from = fs::File::open(&place.0).unwrap();
        // The first pages, and the tables of blocks: the rest is holes, also where zeros were.
        for at in
            (0..1 << 16).chain(ArenaSizes::FULL.blocks_at()..ArenaSizes::FULL.blocks_at() + (1 << 16)).step_by(4096)
        {
            from.read_exact_at(&mut head, at).unwrap();
            if head.iter().any(|&byte| byte != 0) {
                file.write_all_at(&head, at).unwrap();
            }
        }
        fs::set_permissions(&copy.0, fs::Permissions::from_mode(0o600)).unwrap();
        let other = copy.open(&Options::default()).unwrap();
        assert_ne!(other.id(), arena.id());
        drop(alloc(&other, 5000));
    }
}

fn alloc(arena: &Arc<Arena>, len: usize) -> Hold {
    arena.alloc(len, 64, false, &FOREVER).unwrap()
}

fn kind(place: &Place) -> Kind {
    let error = place.open(&Options::default()).unwrap_err();
    assert!(error.to_string().contains(place.0.to_str().unwrap()), "it names the file: {error}");
    error.kind()
}

fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Where the words are that a damaged file has wrong.
const VERSION_AT: u64 = 40;
const LAYOUT_AT: u64 = 60;
const MOST_PLAUSIBLE: u32 = 1 << 20;

/// Who lists arenas opens files that others have mapped. One of them was a pipe by then, and the list never came.
#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    for place in Place::each() {
        drop(place.open(&sized(BUDGET)).unwrap());
        assert!(id_of_file(&place.0).is_some());
        fs::remove_file(&place.0).unwrap();
        assert!(Command::new("mkfifo").arg(&place.0).status().unwrap().success());
        assert_eq!(id_of_file(&place.0), None);
    }
}

#[test]
fn each_file_that_is_none_is_an_error_of_its_own() {
    for place in Place::each() {
        let path = &place.0;
        assert_eq!(kind(&place), Kind::InvalidValue, "a new one wants a budget");
        assert!(!path.exists());
        drop(place.open(&sized(1 << 20)).unwrap());
        let (whole, len) = ([0; 64], fs::metadata(path).unwrap().len());
        let mut head = whole;
        fs::File::open(path).unwrap().read_exact_at(&mut head, 0).unwrap();

        let error = place.open(&sized(2 << 20)).unwrap_err();
        assert!(error.kind() == Kind::InvalidValue, "{error}");
        assert!(error.to_string().contains("1048576 bytes, got 2097152"), "{error}");

        for (version, said) in [(1_u32, "older"), (1000, "newer")] {
            write_at(path, VERSION_AT, &version.to_le_bytes());
            let error = place.open(&Options::default()).unwrap_err();
            let Error::WrongKind(wrong) = &error else { panic!("{error:?}") };
            assert_eq!((wrong.expected.as_str(), wrong.got.as_deref()), ("arena", Some("arena")));
            assert!(error.to_string().contains(said), "{error}");
        }
        write_at(path, 0, &head);
        write_at(path, LAYOUT_AT, &[!head[LAYOUT_AT as usize]]);
        let error = place.open(&Options::default()).unwrap_err();
        assert!(
            matches!(error, Error::WrongKind(_)) && error.to_string().contains("another build of ndshare"),
            "{error}"
        );
        for none in [0, MOST_PLAUSIBLE + 1, u32::MAX] {
            write_at(path, VERSION_AT, &none.to_le_bytes());
            assert_eq!(kind(&place), Kind::Poisoned, "there is no version {none}");
        }
        write_at(path, 0, &head);
        for cut in [len - 1, 1 << 20, 100] {
            OpenOptions::new().write(true).open(path).unwrap().set_len(cut).unwrap();
            assert_eq!(kind(&place), Kind::Poisoned, "cut to {cut}");
        }
        OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
        assert_eq!(kind(&place), Kind::WrongKind, "an empty file");
        OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
        for at in [16, 24, 44, 48, 52] {
            let mut scribbled = head;
            scribbled[at..at + 4].copy_from_slice(&[0xff; 4]);
            write_at(path, 0, &scribbled);
            assert_eq!(kind(&place), Kind::Poisoned, "scribbled at {at}");
        }
        write_at(path, 0, b"not ours, whatever");
        assert_eq!(kind(&place), Kind::WrongKind);

        fs::set_permissions(path, fs::Permissions::from_mode(0o620)).unwrap();
        assert_eq!(kind(&place), Kind::Attach, "others may write it");
        let link = Place(path.with_extension("link"));
        symlink(path, &link.0).unwrap();
        assert_eq!(kind(&link), Kind::Attach);
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        assert_eq!(kind(&place), Kind::Attach);
        let inside = Place(path.join("no such folder").join("x"));
        assert_eq!(inside.open(&sized(1 << 20)).unwrap_err().kind(), Kind::Attach);
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_used_is_an_error_at_the_next_allocation() {
    for place in Place::each() {
        let arena = place.open(&sized(BUDGET)).unwrap();
        let len = fs::metadata(&place.0).unwrap().len();
        // Only of the end, which nobody uses: what is used would be a SIGBUS.
        OpenOptions::new().write(true).open(&place.0).unwrap().set_len(len - 4096).unwrap();
        assert_eq!(arena.alloc(5000, 64, false, &FOREVER).unwrap_err().kind(), Kind::Poisoned);
        OpenOptions::new().write(true).open(&place.0).unwrap().set_len(len).unwrap();
        drop(alloc(&arena, 5000));
    }
}

/// Nobody could tell who lives. Where none can be mounted there is nothing to see.
#[test]
fn a_file_system_that_lets_go_of_locks_is_refused() {
    let run = |command: &str, arguments: &[&str]| {
        Command::new(command).args(arguments).output().is_ok_and(|done| done.status.success())
    };
    let folder = PathBuf::from(format!("/dev/shm/ndshare-test-{:016x}", random_u64()));
    let part = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let [lower, upper, work, at] = ["lower", "upper", "work", "at"].map(part);
    [&lower, &upper, &work, &at].iter().for_each(|path| fs::create_dir_all(path).unwrap());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    if run("mount", &["-t", "overlay", "overlay", "-o", &options, &at]) {
        let place = Place(PathBuf::from(&at).join("a.nds"));
        let error = place.open(&sized(BUDGET)).unwrap_err();
        assert!(error.kind() == Kind::Attach && error.to_string().contains("lets go of a lock"), "{error}");
        assert!(!place.0.exists());
        assert!(run("umount", &["-l", &at]));
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn of_many_who_come_at_once_one_makes_it() {
    for place in Place::each() {
        let ids: Vec<_> = std::thread::scope(|scope| {
            let come = || place.open(&sized(BUDGET)).unwrap();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(come)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|arena| arena.id() == ids[0].id()));
    }
}

#[test]
fn who_has_the_door_is_waited_for() {
    for place in Place::each() {
        drop(place.open(&sized(BUDGET)).unwrap());
        let file = crate::os::path::open(&place.0).unwrap().unwrap();
        let file = crate::os::file::MemFile::open_at(&place.0, &file, "ndshare:test").unwrap();
        let door = join::door(&file, &FOREVER).unwrap();
        let soon = Deadline::after(Duration::from_millis(30));
        assert_eq!(Arena::at(&place.0, &Options::default(), &soon).unwrap_err().kind(), Kind::Timeout);
        drop(door);
        place.open(&Options::default()).unwrap();
    }
}

// ---- tables that a dead machine left

#[test]
fn whatever_the_dead_left_in_the_tables_is_mended() {
    let (first, heap) = Arena::create_lasting_on_heap(BUDGET).unwrap();
    let block = keep_one(&first, 7);
    let (stray, ticket) = (alloc(&first, 9000), alloc(&first, 9000));
    ticket.issue(&FOREVER).unwrap().unwrap();
    let control = &first.control;
    // A lock, holders and owners that nobody is, and sums that are wrong.
    control.header().lock.0.store(77, SeqCst);
    control.span_header().used.store(1, SeqCst);
    control.span_header().gap_bins.iter().for_each(|bin| bin.store(3, SeqCst));
    control.block(block.index).unwrap().records.store(9, SeqCst);
    control.block(block.index).unwrap().words().set_bit(60);
    control.block(block.index).unwrap().lock.store(50, SeqCst);
    let reserved = control.block(stray.block().index).unwrap();
    reserved.word.store(word::Word::new(5, 33, State::Reserved).pack(), SeqCst);
    heap.declare_dead(first.participant_slot());
    std::mem::forget((first, stray, ticket));
    let arena = Arena::reopen_on_heap(&heap).unwrap();
    let kept = find_one(&arena, 7);
    assert_eq!(arena.try_lock_block(&kept).unwrap(), Some(true), "free, and marked with a death");
    let stats = arena.stats().unwrap();
    assert_eq!((stats.blocks, stats.tickets.len(), stats.warm_bytes), (2, 0, 0));
    audit(&arena);
}

#[test]
fn tables_that_contradict_themselves_are_an_error() {
    let (first, heap) = Arena::create_lasting_on_heap(BUDGET).unwrap();
    let (block, other) = (keep_one(&first, 7), alloc(&first, 9000));
    let span = |index| &first.control.block(index).unwrap().span;
    span(other.block().index).store(span(block.index).load(SeqCst), SeqCst);
    heap.declare_dead(first.participant_slot());
    std::mem::forget((first, other));
    for _ in 0..2 {
        assert_eq!(Arena::reopen_on_heap(&heap).unwrap_err().kind(), Kind::Poisoned);
    }
}

/// Whoever mended this gave back all that had a name, and said nothing.
#[test]
fn a_root_whose_records_were_written_over_is_an_error() {
    let scribbles: [fn(&Arena, BlockId, BlockId); 3] = [
        |arena, root, _| {
            let of_root = |record: &&Record| record.block.load(SeqCst) == root.index;
            let records = (0..arena.control.records_ready()).map(|index| arena.control.record(index).unwrap());
            records.filter(of_root).for_each(|record| record.origin.store(1 << 30, SeqCst));
        },
        |arena, root, _| {
            let block = arena.control.block(root.index).unwrap();
            block.word.store(block.word.load(SeqCst) ^ 1 << 40, SeqCst);
        },
        |arena, _, kept| arena.control.block(kept.index).unwrap().word.store(0, SeqCst),
    ];
    for scribble in scribbles {
        let (first, heap) = Arena::create_lasting_on_heap(BUDGET).unwrap();
        let root = first.root(ROOT_BYTES, &FOREVER).unwrap().block();
        let kept = keep_one(&first, 7);
        scribble(&first, root, kept);
        heap.declare_dead(first.participant_slot());
        std::mem::forget(first);
        for _ in 0..2 {
            assert_eq!(Arena::reopen_on_heap(&heap).unwrap_err().kind(), Kind::Poisoned);
        }
    }
}

/// The names say the same as the records, so that what has one is not given back.
#[test]
fn a_record_of_what_is_named_that_was_written_over_is_made_anew() {
    let scribbles: [fn(&Record, u32); 8] = [
        |record, _| record.nonce.store(0, SeqCst),
        |record, _| record.block.store(u32::MAX, SeqCst),
        |record, _| record.block.store(77, SeqCst),
        |record, other| record.block.store(other, SeqCst),
        |record, _| record.generation.store(77, SeqCst),
        |record, _| record.sender.store(3, SeqCst),
        |record, _| record.origin.store(1 << 30, SeqCst),
        |record, _| record.stamp.store(9, SeqCst),
    ];
    for (number, scribble) in scribbles.into_iter().enumerate() {
        let (first, heap) = Arena::create_lasting_on_heap(BUDGET).unwrap();
        let (kept, other) = (keep_one(&first, 7), alloc(&first, 9000));
        let mut records = (0..first.control.records_ready()).map(|index| first.control.record(index).unwrap());
        let its = |record: &&Record| record.nonce.load(SeqCst) != 0 && record.block.load(SeqCst) == kept.index;
        scribble(records.find(its).unwrap(), other.block().index);
        heap.declare_dead(first.participant_slot());
        std::mem::forget((first, other));
        for _ in 0..2 {
            let arena = Arena::reopen_on_heap(&heap).unwrap();
            assert_eq!(find_one(&arena, 7).block(), kept, "scribble {number}");
            audit(&arena);
        }
        heap.remove();
    }
}

#[test]
fn a_record_of_the_root_of_another_generation_is_made_anew() {
    let (first, heap) = Arena::create_lasting_on_heap(BUDGET).unwrap();
    keep_one(&first, 7);
    let root = first.root(ROOT_BYTES, &FOREVER).unwrap().block();
    let mut records = (0..first.control.records_ready()).map(|index| first.control.record(index).unwrap());
    records.find(|record| record.block.load(SeqCst) == root.index).unwrap().generation.store(77, SeqCst);
    heap.declare_dead(first.participant_slot());
    std::mem::forget(first);
    let arena = Arena::reopen_on_heap(&heap).unwrap();
    let kept = arena.root(ROOT_BYTES, &FOREVER).unwrap().children().unwrap();
    assert!(kept.iter().any(|(_, block)| *block == root), "{kept:?}");
    drop(find_one(&arena, 7));
}

/// A root that names something kept itself first.
#[test]
fn a_root_that_lost_all_its_records_is_an_error() {
    let (first, heap) = Arena::create_lasting_on_heap(BUDGET).unwrap();
    keep_one(&first, 7);
    let records = (0..first.control.records_ready()).map(|index| first.control.record(index).unwrap());
    records.for_each(|record| record.nonce.store(0, SeqCst));
    heap.declare_dead(first.participant_slot());
    std::mem::forget(first);
    for _ in 0..2 {
        assert_eq!(Arena::reopen_on_heap(&heap).unwrap_err().kind(), Kind::Poisoned);
    }
}

#[cfg(feature = "killpoints")]
mod deaths {
    use super::*;
    use crate::os::kill::{KILL_POINTS, armed::stops_at};

    /// What a process does in an arena that lasts. The block that was kept before stays as it is.
    fn busy(arena: &Arc<Arena>) {
        drop(find_one(arena, 42));
        drop((alloc(arena, 700), alloc(arena, 700)));
        let holds: Vec<Hold> = (0..40).map(|i| alloc(arena, 1000 * (i + 1))).collect();
        let (root, large) = (arena.root(ROOT_BYTES, &FOREVER).unwrap(), alloc(arena, 2 << 20));
        let record = root.adopt(&large, &FOREVER).unwrap();
        let ticket = large.issue(&FOREVER).unwrap().unwrap();
        drop(arena.claim(large.block(), ticket, &FOREVER).unwrap());
        let kept = find_one(arena, 42);
        arena.lock_block(&kept, Reentry::Refuse, &FOREVER).unwrap();
        arena.unlock_block(&kept, true).unwrap();
        root.disown(record, &FOREVER).unwrap();
        drop((holds, large));
        arena.make_room(u64::MAX, &FOREVER).unwrap();
        arena.leave();
    }

    fn all_die(heap: &Arc<Heap>) {
        (0..80).for_each(|slot| heap.declare_dead(slot));
    }

    fn is_whole(heap: &Arc<Heap>, label: &str) {
        let arena = Arena::reopen_on_heap(heap).unwrap();
        drop(find_one(&arena, 42));
        let _ = arena.reclaim(Duration::ZERO, &FOREVER);
        // What the victim itself kept by the root stays.
        let stats = arena.stats().unwrap();
        assert!((2..=3).contains(&stats.blocks), "{label}: {stats:?}");
        assert_eq!((stats.participants.len(), stats.tickets.len()), (1, 0), "{label}");
        audit(&arena);
        drop(alloc(&arena, 1 << 20));
        drop(arena);
        heap.remove();
    }

    #[test]
    fn when_the_last_dies_at_any_point_the_next_finds_everything() {
        for &label in KILL_POINTS {
            for nth in [1, 3] {
                let (first, heap) = Arena::create_lasting_on_heap(BUDGET).unwrap();
                keep_one(&first, 42);
                drop(first);
                let theirs = heap.clone();
                stops_at(label, nth, move || {
                    let arena = Arena::join_on_heap(&theirs).unwrap();
                    busy(&arena);
                    std::mem::forget(arena);
                });
                all_die(&heap);
                is_whole(&heap, label);
            }
        }
    }

    #[test]
    fn who_mends_may_die_as_well() {
        let mut passed = Vec::new();
        for victim in ["lock:taken", "split:reserved", "issue:live"] {
            for &label in KILL_POINTS {
                let (first, heap) = Arena::create_lasting_on_heap(BUDGET).unwrap();
                keep_one(&first, 42);
                drop(first);
                let theirs = heap.clone();
                assert!(stops_at(victim, 1, move || busy(&Arena::join_on_heap(&theirs).unwrap())));
                all_die(&heap);
                let theirs = heap.clone();
                if stops_at(label, 1, move || std::mem::forget(Arena::reopen_on_heap(&theirs).unwrap())) {
                    passed.push(label);
                }
                all_die(&heap);
                is_whole(&heap, label);
            }
        }
        for label in KILL_POINTS.iter().filter(|label| label.starts_with("mend:")) {
            assert!(passed.contains(label), "nobody died at {label}");
        }
    }
}
