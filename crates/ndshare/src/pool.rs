//! Threads that share a job.
//!
//! A job is a number of pieces, each about a millisecond of work or less. The caller takes pieces itself, so a job
//! ends also when nobody helps, and small jobs need nobody. Between two pieces the caller may be interrupted.
//!
//! The helpers sleep between jobs. Before a fork they leave their jobs after the piece at hand and end; whoever has
//! the next job, in the parent or in the child, starts new ones. So a child never waits for threads that it does not
//! have, and Python finds one thread less to warn of. A piece must not wait for anything: not for a lock that others
//! hold for long, and never for the interpreter.

use crate::error::Result;
use crate::os::cpu::Cpus;
use crate::os::thread::Thread;
use crate::os::{fork, futex, monotonic};
use crate::prim::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::prim::{AtomicBool, AtomicU32, AtomicU64, SpinLock};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::time::Duration;

/// The most threads that one job gets, and that the pool ever has.
pub const MAX_WORKERS: usize = 256;
/// How often a caller looks for a reason to stop.
const CHECK: Duration = Duration::from_millis(50);
/// How long a helper sleeps at most; nothing depends on it.
const NAP: Duration = Duration::from_secs(3600);
/// Looks at the helpers before the caller sleeps: they are in their last pieces.
const SPINS: u32 = 2000;

/// What a job does: it is given the number of a piece.
pub type Work<'a> = &'a (dyn Fn(usize) + Sync);
/// What each thread does at its end.
pub type Leave<'a> = &'a (dyn Fn() + Sync);
/// What may end a job early: it returns the error that the job shall end with.
pub type Check<'a> = &'a dyn Fn() -> Result<()>;

/// Runs `work(0)` to `work(pieces - 1)`, each once, in no fixed order, on up to `workers` threads with the caller.
/// Each thread runs `leave` after its last piece; what it has done by then is done when this returns.
///
/// `check` runs on the calling thread about every 50 ms; its error ends the job after the pieces at hand. All pieces
/// have ended when this returns.
///
/// # Errors
/// What `check` says.
///
/// # Panics
/// When a piece panics.
pub fn run(workers: usize, pieces: usize, work: Work<'_>, leave: Leave<'_>, check: Check<'_>) -> Result<()> {
    let helpers = workers.min(pieces).min(MAX_WORKERS).saturating_sub(1);
    let job = Job::new(work, leave, pieces, helpers);
    // After a raw clone the pool's lock may be one that nobody will open.
    if helpers == 0 || !fork::is_known() {
        return job.lead(check);
    }
    let listed = Listed::new(&job);
    let result = job.lead(check);
    listed.finish(result, check)
}

/// One job, on the stack of its caller.
struct Job<'a> {
    work: Work<'a>,
    leave: Leave<'a>,
    pieces: u64,
    next: AtomicU64,
    /// How many helpers it wants at once; constant.
    helpers: u32,
    /// Helpers that are in it. Grows only under the pool's lock, while the job is listed.
    inside: AtomicU32,
    stop: AtomicBool,
    panicked: AtomicBool,
    /// Where the caller may run; its helpers run there, too.
    cpus: Option<Cpus>,
}

impl<'a> Job<'a> {
    fn new(work: Work<'a>, leave: Leave<'a>, pieces: usize, helpers: usize) -> Self {
        Self {
            work,
            leave,
            pieces: pieces as u64,
            next: AtomicU64::new(0),
            helpers: helpers as u32,
            inside: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            cpus: if helpers > 0 { Cpus::of_this_thread() } else { None },
        }
    }

    /// Does one piece; false when there is none left to take.
    fn step(&self) -> bool {
        if self.stop.load(Relaxed) {
            return false;
        }
        let piece = self.next.fetch_add(1, Relaxed);
        if piece < self.pieces {
            (self.work)(piece as usize);
        }
        piece < self.pieces
    }

    /// The caller's part: pieces until none is left.
    fn lead(&self, check: Check<'_>) -> Result<()> {
        let result = self.lead_on(check);
        (self.leave)();
        result
    }

    fn lead_on(&self, check: Check<'_>) -> Result<()> {
        let mut looked = None;
        while self.step() {
            let now = monotonic();
            if now.saturating_sub(*looked.get_or_insert(now)) >= CHECK {
                check()?;
                looked = Some(now);
            }
        }
        Ok(())
    }

    fn wants_help(&self) -> bool {
        self.inside.load(Relaxed) < self.helpers && self.next.load(Relaxed) < self.pieces && !self.stop.load(Relaxed)
    }

    /// A helper's part.
    fn help(&self) {
        if let Some(cpus) = &self.cpus
            && Cpus::of_this_thread().is_some_and(|mine| mine != *cpus)
        {
            // Where it may not run there, it runs where it is.
            let _ = cpus.apply();
        }
        let work = || {
            while !LEAVE.load(Relaxed) {
                if !self.step() {
                    break;
                }
            }
        };
        let done = catch_unwind(AssertUnwindSafe(work));
        (self.leave)();
        if done.is_err() {
            self.panicked.store(true, Relaxed);
            self.stop.store(true, Relaxed);
        }
    }
}

/// A job that helpers can find. It leaves the list, and its helpers leave it, before its memory goes.
struct Listed<'a> {
    job: &'a Job<'a>,
}

impl<'a> Listed<'a> {
    fn new(job: &'a Job<'a>) -> Self {
        watch_forks();
        POOL.lock().jobs.push(Listing::of(job));
        hire();
        BELL.fetch_add(1, Release);
        futex::wake(&BELL, job.helpers.cast_signed());
        Self { job }
    }

    /// Waits for the helpers; `result` is the caller's own.
    fn finish(self, result: Result<()>, check: Check<'_>) -> Result<()> {
        self.job.stop.fetch_or(result.is_err(), Relaxed);
        self.unlist();
        let mut result = result;
        self.await_helpers(|| {
            if result.is_ok() {
                result = check();
                self.job.stop.fetch_or(result.is_err(), Relaxed);
            }
        });
        if self.job.panicked.load(Relaxed) {
            resume_unwind(Box::new("a piece of a job panicked in a helper"));
        }
        result
    }

    fn unlist(&self) {
        POOL.lock().jobs.retain(|place| *place != Listing::of(self.job));
    }

    /// Returns when no helper is inside; nobody can enter any more. `look` runs about every 50 ms.
    fn await_helpers(&self, mut look: impl FnMut()) {
        for _ in 0..SPINS {
            if self.job.inside.load(Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        let mut looked = monotonic();
        loop {
            let left = LEFT.load(Acquire);
            if self.job.inside.load(Acquire) == 0 {
                return;
            }
            futex::wait(&LEFT, left, CHECK);
            if monotonic() - looked >= CHECK {
                look();
                looked = monotonic();
            }
        }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        // After `finish` this finds nothing to do; it matters when a piece or the check panicked.
        self.job.stop.store(true, Relaxed);
        self.unlist();
        self.await_helpers(|| {});
    }
}

/// Where a listed job is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Listing(*const Job<'static>);

// SAFETY: the job is made of atomics and of references to what is `Sync`; `Listed` keeps it in its place for as long
// as anybody can find it here.
unsafe impl Send for Listing {}

impl Listing {
    fn of(job: &Job<'_>) -> Self {
        Self(std::ptr::from_ref(job).cast())
    }
}

struct State {
    jobs: Vec<Listing>,
    threads: Vec<Thread>,
    /// Threads that are being started.
    starting: usize,
    /// Forks in progress.
    forks: usize,
}

static POOL: SpinLock<State> = SpinLock::new(State { jobs: Vec::new(), threads: Vec::new(), starting: 0, forks: 0 });
/// Rung for every new job, and when helpers shall end.
static BELL: AtomicU32 = AtomicU32::new(0);
/// Moves whenever a helper leaves a job. Static, so that it outlives the job that is left.
static LEFT: AtomicU32 = AtomicU32::new(0);
/// A fork is coming: helpers end.
static LEAVE: AtomicBool = AtomicBool::new(false);

impl State {
    /// How many threads the listed jobs want beyond those that there are.
    fn vacancies(&self) -> usize {
        // SAFETY: a listed job is in its place; see `Listing`.
        let wanted = self.jobs.iter().map(|place| unsafe { (*place.0).helpers } as usize).sum::<usize>();
        let have = self.threads.len() + self.starting;
        if self.forks > 0 { 0 } else { wanted.min(MAX_WORKERS).saturating_sub(have) }
    }

    /// A job that wants help, entered.
    fn enter(&self) -> Option<Listing> {
        let wanting = self.jobs.iter().find(|place| {
            // SAFETY: as above.
            unsafe { (*place.0).wants_help() }
        });
        let place = *wanting?;
        // SAFETY: as above; from here on the caller waits until this helper has left.
        unsafe { (*place.0).inside.fetch_add(1, Relaxed) };
        Some(place)
    }
}

/// Starts the threads that are missing. Where the system gives none, the jobs go on with those that there are.
fn hire() {
    loop {
        let mut pool = POOL.lock();
        if pool.vacancies() == 0 {
            return;
        }
        pool.starting += 1;
        drop(pool);
        let thread = Thread::start("ndshare", serve);
        let mut pool = POOL.lock();
        pool.starting -= 1;
        match thread {
            Ok(thread) => pool.threads.push(thread),
            Err(_) => return,
        }
    }
}

/// What a helper does all its life.
fn serve() {
    loop {
        let rung = BELL.load(Acquire);
        if LEAVE.load(Acquire) {
            return;
        }
        let found = POOL.lock().enter();
        match found {
            Some(place) => {
                // SAFETY: entered, so the caller keeps the job until `inside` has gone down.
                let job = unsafe { &*place.0 };
                job.help();
                // Release: the caller sees what this helper has written. The job may be gone right after.
                job.inside.fetch_sub(1, Release);
                LEFT.fetch_add(1, AcqRel);
                futex::wake_all(&LEFT);
            }
            None => futex::wait(&BELL, rung, NAP),
        }
    }
}

/// Has the helpers end before every fork from now on.
pub(crate) fn watch_forks() {
    static HANDLERS: OnceLock<()> = OnceLock::new();
    HANDLERS.get_or_init(|| {
        // Without memory for a handler there is none for a fork either.
        let _ = fork::at_fork(before, in_parent, in_child);
    });
}

extern "C" fn before() {
    let mut pool = POOL.lock();
    pool.forks += 1;
    LEAVE.store(true, Release);
    while pool.starting > 0 {
        drop(pool);
        std::thread::yield_now();
        pool = POOL.lock();
    }
    let threads = std::mem::take(&mut pool.threads);
    drop(pool);
    BELL.fetch_add(1, Release);
    futex::wake_all(&BELL);
    threads.into_iter().for_each(Thread::join);
    POOL.lock_across_fork();
}

extern "C" fn in_parent() {
    // SAFETY: this thread holds the lock since `before`, and keeps no second reference.
    let pool = unsafe { POOL.forked() };
    pool.forks -= 1;
    LEAVE.store(pool.forks > 0, Release);
    POOL.unlock_after_fork();
}

extern "C" fn in_child() {
    // SAFETY: as above, in the child's copy. Only the forking thread lives on here, and no helper is in any job. If
    // it forked in the check of a job of its own, it goes on with that alone.
    let pool = unsafe { POOL.forked() };
    pool.jobs.clear();
    pool.threads.drain(..).for_each(Thread::forget);
    (pool.starting, pool.forks) = (0, 0);
    LEAVE.store(false, Release);
    POOL.unlock_after_fork();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use std::time::Instant;

    fn calm() -> Result<()> {
        Ok(())
    }

    fn count(workers: usize, pieces: usize) -> u64 {
        let sum = AtomicU64::new(0);
        let add = |piece| _ = sum.fetch_add(1_u64 << (piece % 3 * 20), Relaxed);
        run(workers, pieces, &add, &|| (), &calm).unwrap();
        sum.into_inner()
    }

    fn counted(pieces: usize) -> u64 {
        (0..pieces).map(|piece| 1 << (piece % 3 * 20)).sum()
    }

    #[test]
    fn every_piece_runs_once() {
        for workers in [0, 1, 2, 3, 8] {
            for pieces in [0, 1, 2, 7, 1000] {
                assert_eq!(count(workers, pieces), counted(pieces), "{workers} {pieces}");
            }
        }
    }

    #[test]
    fn every_thread_leaves_after_its_last_piece() {
        for workers in [1, 2, 4] {
            let (open, left) = (AtomicU64::new(0), AtomicU32::new(0));
            let work = |_| _ = open.fetch_add(1, Relaxed);
            let leave = || {
                left.fetch_add(1, Relaxed);
            };
            run(workers, 50, &work, &leave, &calm).unwrap();
            assert_eq!(open.into_inner(), 50);
            assert!((1..=workers as u32).contains(&left.into_inner()));
        }
    }

    #[test]
    fn threads_call_it_at_once() {
        std::thread::scope(|scope| {
            for caller in 0..4 {
                scope.spawn(move || (0..100).for_each(|i| assert_eq!(count(caller, i), counted(i))));
            }
        });
    }

    #[test]
    fn n_workers_are_n_threads() {
        let (here, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let meet = |_| {
            most.fetch_max(here.fetch_add(1, Relaxed) + 1, Relaxed);
            let start = Instant::now();
            while most.load(Relaxed) < 3 && start.elapsed() < Duration::from_secs(20) {
                std::thread::yield_now();
            }
            here.fetch_sub(1, Relaxed);
        };
        run(3, 30, &meet, &|| (), &calm).unwrap();
        assert_eq!(most.into_inner(), 3);
    }

    #[test]
    fn a_check_ends_a_job_and_the_pool_lives_on() {
        let started = AtomicU64::new(0);
        let slow = |_| {
            started.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        };
        let stop = || Err(Error::new(Kind::Interrupted, "enough"));
        let start = Instant::now();
        let error = run(2, 100_000, &slow, &|| (), &stop).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
        assert!(started.into_inner() < 1000 && start.elapsed() < Duration::from_secs(5));
        assert_eq!(count(3, 100), counted(100));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for workers in [1, 2, 4] {
            let fails = |piece| assert!(piece != 20, "piece {piece}");
            let outcome = catch_unwind(|| run(workers, 100, &fails, &|| (), &calm));
            assert!(outcome.is_err());
            assert_eq!(count(workers, 100), counted(100));
        }
    }
}
