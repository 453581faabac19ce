//! Kill points: labelled places where a test ends the process, as `kill -9` would, or stops it, as a debugger would.
//!
//! A point stands after each store to shared control memory; `tests/kill_points.py` says by which rule, and sees to it.
//! They are compiled in only with the feature `killpoints`; without it [`point`] is nothing.

use crate::error::Result;

macro_rules! labels {
    ($($name:ident = $label:literal,)*) => {
        /// The labels that exist; empty without the feature `killpoints`.
        #[cfg(feature = "killpoints")]
        pub const KILL_POINTS: &[&str] = &[$($label,)*];
        /// The labels that exist; empty without the feature `killpoints`.
        #[cfg(not(feature = "killpoints"))]
        pub const KILL_POINTS: &[&str] = &[];

        /// A place where a process can be made to die.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point { $(#[doc = $label] $name,)* }

        impl Point {
            /// The label that tests name it by.
            pub fn label(self) -> &'static str {
                match self { $(Point::$name => $label,)* }
            }
        }
    };
}

labels! {
    MakeFormatted = "make:formatted",
    JoinLocked = "join:locked",
    JoinNamed = "join:named",
    JoinDone = "join:done",
    LeaveUnnamed = "leave:unnamed",
    LockMarked = "lock:marked",
    LockTaken = "lock:taken",
    LockFreed = "lock:freed",
    BlockLocked = "block-lock:taken",
    BlockFreed = "block-lock:freed",
    ListLinked = "list:linked",
    SplitUnlinked = "split:unlinked",
    SplitFront = "split:front",
    SplitBack = "split:back",
    SplitSpan = "split:span",
    SplitReserved = "split:reserved",
    SplitCounted = "split:counted",
    WarmUnlinked = "warm:unlinked",
    WarmReserved = "warm:reserved",
    WarmCounted = "warm:counted",
    WarmTrimmed = "warm:trimmed",
    WarmKept = "warm:kept",
    WarmLinked = "warm:linked",
    GrowCommitted = "grow:committed",
    GrowReady = "grow:ready",
    AllocCommitting = "alloc:committing",
    AllocCommitted = "alloc:committed",
    AllocHeld = "alloc:held",
    AllocLive = "alloc:live",
    QuickHeld = "quick:held",
    QuickLive = "quick:live",
    QuickCleared = "quick:cleared",
    QuickKept = "quick:kept",
    TakeBit = "take:bit",
    TakeDone = "take:done",
    TakeUndone = "take:undone",
    RenewBit = "renew:bit",
    RenewDone = "renew:done",
    DropCleared = "drop:cleared",
    FreeClaimed = "free:claimed",
    FreeGrown = "free:grown",
    FreePunched = "free:punched",
    FreeWord = "free:word",
    FreeMerged = "free:merged",
    FreeCounted = "free:counted",
    IssueExt = "issue:ext",
    IssueBumped = "issue:bumped",
    IssueWritten = "issue:written",
    IssueLive = "issue:live",
    IssueCounted = "issue:counted",
    IssueAddressed = "issue:addressed",
    ClaimTaken = "claim:taken",
    RemoveFree = "remove:free",
    RemoveExt = "remove:ext",
    RemoveCounted = "remove:counted",
    RemoveChildren = "remove:children",
    AdoptMarked = "adopt:marked",
    RingPicked = "ring:picked",
    RingReplaced = "ring:replaced",
    RingBusy = "ring:busy",
    RingFilled = "ring:filled",
    RingSequenced = "ring:sequenced",
    RingHead = "ring:head",
    RingEvent = "ring:event",
    RingAdopted = "ring:adopted",
    RingMoved = "ring:moved",
    RingTaken = "ring:taken",
    RingClaimed = "ring:claimed",
    RingDone = "ring:done",
    RingJoined = "ring:joined",
    RingLeft = "ring:left",
    RingWished = "ring:wished",
    RingTurned = "ring:turned",
    RingNamed = "ring:named",
    RingPassed = "ring:passed",
    RingEntered = "ring:entered",
    RingEnded = "ring:ended",
    RingLetGo = "ring:let-go",
    RingOver = "ring:over",
    RingSettled = "ring:settled",
    MendRecords = "mend:records",
    MendTables = "mend:tables",
    MendCounted = "mend:counted",
    RootMade = "root:made",
    NameCleared = "name:cleared",
    NameWritten = "name:written",
    NameMade = "name:made",
    DirectoryMade = "directory:made",
    DirectoryLocked = "directory:locked",
    DirectoryWritten = "directory:written",
    DirectoryLinked = "directory:linked",
    DirectoryRenamed = "directory:renamed",
    DirectoryRemoved = "directory:removed",
    OfferFolder = "offer:folder",
    OfferMade = "offer:made",
    OfferDressed = "offer:dressed",
    OfferShown = "offer:shown",
    OfferRemoved = "offer:removed",
    CacheChosen = "cache:chosen",
    CacheEmptied = "cache:emptied",
    CacheReleased = "cache:released",
    CacheFreed = "cache:freed",
    CacheOccupied = "cache:occupied",
    CacheLoading = "cache:loading",
    CacheChained = "cache:chained",
    CacheAdopted = "cache:adopted",
    CacheFilled = "cache:filled",
    CacheLive = "cache:live",
    CacheQueued = "cache:queued",
    CacheCounted = "cache:counted",
    CacheAbandoned = "cache:abandoned",
    CacheResizing = "cache:resizing",
    CacheResized = "cache:resized",
    CacheGeneration = "cache:generation",
    CacheGrown = "cache:grown",
    CacheExtended = "cache:extended",
    CacheEnded = "cache:ended",
    CacheForgotten = "cache:forgotten",
    CacheRequeued = "cache:requeued",
    OverlayWaited = "overlay:waited",
    OverlayBegun = "overlay:begun",
    OverlayLeft = "overlay:left",
    CanvasTouched = "canvas:touched",
    SweepLocked = "sweep:locked",
    SweepTakenOver = "sweep:taken-over",
    SweepRebuilding = "sweep:rebuilding",
    SweepRebuilt = "sweep:rebuilt",
    SweepOwned = "sweep:owned",
    SweepNamed = "sweep:named",
    SweepUnlocked = "sweep:unlocked",
    SweepBit = "sweep:bit",
    SweepFreed = "sweep:freed",
    SweepSlot = "sweep:slot",
    ForkSlot = "fork:slot",
    ForkBits = "fork:bits",
    ForkChild = "fork:child",
}

/// A place where a test may end this process.
#[inline(always)]
pub fn point(_point: Point) {
    #[cfg(feature = "killpoints")]
    armed::hit(_point.label());
}

/// Arms the point `label`: the process is killed when it passes there for the `nth` time from now.
///
/// # Errors
/// `InvalidValue` for an unknown label, and always without the feature `killpoints`.
pub fn kill_at(label: &str, nth: u32) -> Result<()> {
    check(label)?;
    #[cfg(feature = "killpoints")]
    armed::arm(label, nth, armed::die);
    let _ = nth;
    Ok(())
}

/// Arms the point `label`: the process stops itself (SIGSTOP) when it passes there for the `nth` time from now, once.
///
/// # Errors
/// As [`kill_at`].
pub fn stop_at(label: &str, nth: u32) -> Result<()> {
    check(label)?;
    #[cfg(feature = "killpoints")]
    armed::arm(label, nth, armed::stop);
    let _ = nth;
    Ok(())
}

/// Arms what `NDSHARE_KILL_AT="label:nth"` asks for, in builds with the feature `killpoints`.
///
/// # Errors
/// `InvalidValue` for an unknown label.
pub fn arm_from_environment() -> Result<()> {
    if KILL_POINTS.is_empty() {
        return Ok(());
    }
    let Ok(wanted) = std::env::var("NDSHARE_KILL_AT") else { return Ok(()) };
    let (label, nth) = wanted.rsplit_once(':').and_then(|(l, n)| Some((l, n.parse().ok()?))).unwrap_or((&wanted, 1));
    kill_at(label, nth)
}

fn check(label: &str) -> Result<()> {
    if !KILL_POINTS.contains(&label) {
        return Err(crate::Error::value(format!(
            "no kill point {label:?}: expected one of KILL_POINTS, which has {} labels in this build",
            KILL_POINTS.len()
        )));
    }
    Ok(())
}

#[cfg(feature = "killpoints")]
pub(crate) mod armed {
    use crate::prim::{AtomicBool, Ordering};
    use std::cell::RefCell;
    use std::sync::Mutex;

    static ANY: AtomicBool = AtomicBool::new(false);
    static ARMED: Mutex<Option<Armed>> = Mutex::new(None);

    /// What happens at which pass of which label.
    struct Armed {
        label: String,
        left: u32,
        act: fn(),
    }

    /// Sees each label that its thread passes.
    type Hook = Box<dyn Fn(&str)>;

    thread_local! {
        /// What a point does in this thread instead of the kill: models stop the thread for good.
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    pub(super) fn arm(label: &str, nth: u32, act: fn()) {
        let armed = Armed { label: label.to_owned(), left: nth.max(1), act };
        *ARMED.lock().unwrap_or_else(|e| e.into_inner()) = Some(armed);
        ANY.store(true, Ordering::SeqCst);
    }

    /// Lets `hook` see every point that this thread passes.
    #[cfg(test)]
    fn set_hook(hook: Hook) {
        HOOK.with(|h| *h.borrow_mut() = Some(hook));
        ANY.store(true, Ordering::SeqCst);
    }

    /// Runs `script` on a thread that stops for good, as a killed process would, when it passes `label` for the `nth`
    /// time; says whether it did so before the script ended.
    #[cfg(test)]
    pub(crate) fn stops_at(label: &'static str, nth: u32, script: impl FnOnce() + Send + 'static) -> bool {
        let (report, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (passes, at_death) = (std::cell::Cell::new(0), report.clone());
            set_hook(Box::new(move |point| {
                passes.set(passes.get() + u32::from(point == label));
                if point == label && passes.get() == nth {
                    at_death.send(true).expect("the caller waits");
                    loop {
                        std::thread::park();
                    }
                }
            }));
            script();
            let _ = report.send(false);
        });
        ended.recv().expect("the thread reports")
    }

    /// Runs `script`, and `meanwhile` when it passes `label` for the `nth` time, as if others had been so fast; says whether
    /// it passed there so often.
    #[cfg(test)]
    pub(crate) fn overtaken_at(
        label: &'static str,
        nth: u32,
        meanwhile: impl Fn() + 'static,
        script: impl FnOnce(),
    ) -> bool {
        let passes = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = passes.clone();
        set_hook(Box::new(move |point| {
            counted.set(counted.get() + u32::from(point == label));
            if point == label && counted.get() == nth {
                meanwhile();
            }
        }));
        script();
        // What it has in hand goes after the hook, for that passes points, too.
        drop(HOOK.take());
        passes.get() >= nth
    }

    #[inline]
    pub(super) fn hit(label: &'static str) {
        if ANY.load(Ordering::Relaxed) {
            passed(label);
        }
    }

    #[cold]
    fn passed(label: &'static str) {
        // A thread that is going down has no hook any more; that is fine.
        let _ = HOOK.try_with(|hook| {
            if let Some(hook) = hook.borrow().as_ref() {
                hook(label);
            }
        });
        // Nothing is locked while the process stands still, or other threads could not go on together with this one.
        if let Some(act) = due(label) {
            act();
        }
    }

    fn due(label: &str) -> Option<fn()> {
        let mut armed = ARMED.lock().unwrap_or_else(|e| e.into_inner());
        let wanted = armed.as_mut().filter(|wanted| wanted.label == label)?;
        wanted.left -= 1;
        if wanted.left > 0 {
            return None;
        }
        armed.take().map(|armed| armed.act)
    }

    pub(super) fn stop() {
        // SAFETY: raise takes no memory of ours. This thread has the signal, so it does not go on before SIGCONT.
        unsafe { libc::raise(libc::SIGSTOP) };
    }

    pub(super) fn die() {
        // SAFETY: kill takes no memory of ours; SIGKILL to oneself does not return.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        std::process::abort();
    }
}
