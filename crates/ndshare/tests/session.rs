//! A session of several processes, all of them in Rust: who starts it, who finds it and how, and who dies.
//!
//! A peer is this very program, which runs one test that does what it is told on its input.

use ndshare::arena::{Arena, BlockId, Deadline, Hold, TicketId};
use ndshare::array::{Array, Description};
use ndshare::cache::{Cache, Geometry, Key};
use ndshare::layout::Layout;
use ndshare::names;
use ndshare::prim::{AtomicU32, Ordering::SeqCst};
use ndshare::session::{self, BUDGET_VARIABLE, Told, VARIABLE};
use ndshare::{Error, Kind, Number};
use std::collections::BTreeSet;
use std::error::Error as AnyError;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// After so long something counts as hung, on the slowest machine.
const HANG: Duration = Duration::from_secs(60);
/// What distinguishes an answer from the words of the test's own frame.
const ANSWER: &str = "> ";
const IS_PEER: &str = "NDSHARE_TEST_PEER";

// ---- a peer, from outside ------------------------------------------------------------------------------------------

struct Peer {
    process: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Peer {
    /// A process that was told of no session.
    fn alone() -> Self {
        Self::start(&mut command(&std::env::current_exe().unwrap()))
    }

    /// A process that finds `value` in its environment.
    fn told(value: &str) -> Self {
        Self::start(command(&std::env::current_exe().unwrap()).env(VARIABLE, value))
    }

    /// A process that is told of a session by its name; the user's registry of names is below `folder`.
    fn named(name: &str, folder: &Folder) -> Self {
        Self::start(&mut folder.command(&format!("@{name}")))
    }

    fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let (lines, answers) = (BufReader::new(process.stdout.take().unwrap()).lines(), channel());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(answer) = line.split_once(ANSWER).map(|(_, answer)| answer.to_owned()) {
                    let _ = answers.0.send(answer);
                }
            }
        });
        Self { process, input, answers: answers.1 }
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.input, "{order}").unwrap();
    }

    fn ask(&mut self, order: &str) -> String {
        self.tell(order);
        self.answers.recv_timeout(HANG).unwrap_or_else(|error| panic!("no answer to {order:?}: {error}"))
    }

    /// As `kill -9`, and waits for its end.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["peer", "--exact", "--ignored", "--nocapture"]).env(IS_PEER, "1");
    command.env_remove(VARIABLE).env_remove(BUDGET_VARIABLE);
    command
}

// ---- a peer, from inside -------------------------------------------------------------------------------------------

#[test]
#[ignore = "the other processes of these tests"]
fn peer() {
    if std::env::var_os(IS_PEER).is_none() {
        return;
    }
    let mut held = Vec::new();
    for order in std::io::stdin().lines().map_while(Result::ok) {
        let answer = obey(&order, &mut held).unwrap_or_else(|error| match error.downcast_ref::<Error>() {
            Some(error) => format!("{:?} {error}", error.kind()),
            None => panic!("{order}: {error}"),
        });
        println!("\n{ANSWER}{answer}");
    }
}

/// The number in a block, as an array of one item.
fn number_in(hold: &Hold) -> ndshare::Result<Array> {
    let description = Description { layout: Layout::contiguous(&[1], 8)?.0, element: Some(Number::U64.into()) };
    Array::of_parts(hold.clone(), 0, description, false)
}

fn obey(order: &str, held: &mut Vec<Hold>) -> Result<String, Box<dyn AnyError>> {
    let forever = Deadline::never();
    let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
    match verb {
        "id" => Ok(id(ndshare::session()?)),
        "known" => Ok(session::known().map_or_else(String::new, |arena| id(arena))),
        "environment" => Ok(ndshare::session()?.environment().1),
        "budget" => Ok(ndshare::session()?.budget_bytes().to_string()),
        "named" => Ok(id(session::named(rest, &forever)?)),
        "publish" => {
            let array = number_in(held.last().ok_or("nothing is held")?)?;
            names::publish(rest, array, false, &forever).map(|()| String::new()).map_err(Into::into)
        }
        "attach" => {
            let brief = Deadline::new(Some(Duration::from_millis(1)), &|| Ok(()));
            let array: Array = names::attach(rest, &brief)?.try_into()?;
            held.push(array.hold().clone());
            Ok(last(held)?.word(0)?.load(SeqCst).to_string())
        }
        "unpublish" => Ok(names::unpublish(rest, &forever)?.to_string()),
        "names" => {
            Ok(names::names()?.into_iter().map(|(name, kind)| format!("{kind} {name}")).collect::<Vec<_>>().join(", "))
        }
        "drop" => Ok(held.drain(..).count().to_string()),
        "join" => Ok(id(session::join(rest)?)),
        "adopt" => Ok(session::adopt(rest.parse()?)?.map_or_else(|| "none".into(), |arena| id(arena))),
        "follow" => follow(),
        "threads" => Ok(at_once(rest.parse()?)),
        "alive" => {
            let participants = ndshare::session()?.stats()?.participants;
            let alive = participants.iter().filter(|one| one.alive).map(|one| one.pid.to_string());
            Ok(alive.collect::<Vec<_>>().join(" "))
        }
        "bytes" => Ok(ndshare::session()?.stats()?.used_bytes.to_string()),
        "make" => {
            let hold = ndshare::session()?.alloc(8, 64, true, &forever)?;
            hold.word(0)?.store(rest.parse()?, SeqCst);
            let (block, ticket) = (hold.block(), hold.issue(&forever)?.ok_or("no ticket")?);
            held.push(hold);
            Ok(format!("{} {} {} {}", block.index, block.generation, ticket.index, ticket.nonce))
        }
        // As "make", but nothing is on its way to anybody.
        "hold" => {
            let hold = ndshare::session()?.alloc(8, 64, true, &forever)?;
            hold.word(0)?.store(rest.parse()?, SeqCst);
            held.push(hold);
            Ok(String::new())
        }
        "claim" => {
            let [index, generation, ticket, nonce] = numbers(rest)?;
            let block = BlockId { index: index as u32, generation: generation as u32 };
            let ticket = TicketId { index: ticket as u32, nonce };
            held.push(ndshare::session()?.claim(block, ticket, &forever)?);
            Ok(String::new())
        }
        "add" => Ok(last(held)?.word(0)?.fetch_add(rest.parse()?, SeqCst).to_string()),
        "read" => Ok(last(held)?.word(0)?.load(SeqCst).to_string()),
        // A tile of the cache "tiles": what was stored, else what this process loads.
        "tile" => {
            let [row, loaded] = numbers(rest)?;
            let arena = ndshare::session()?;
            let cache = Cache::named(arena, "tiles", Geometry::new(1 << 20, None)?, &forever)?;
            let load = |_: &Key| Array::from_slice(arena, &[1], &[loaded]);
            let tile = cache.fetch(&Key::of(&("tile", row))?, &forever, load)?;
            held.push(cache.head().clone());
            Ok(format!("{} of {}", tile.read::<u64>(&[0])?, cache.len()))
        }
        "die-at" => Ok(ndshare::kill_at(rest, 1).map(|()| String::new())?),
        _ => Err(format!("no such order: {order}").into()),
    }
}

fn id(arena: &Arena) -> String {
    format!("{:016x}", arena.id())
}

fn last(held: &[Hold]) -> Result<&Hold, Error> {
    held.last().ok_or_else(|| Error::new(Kind::Misuse, "nothing is held"))
}

fn numbers<const N: usize>(text: &str) -> Result<[u64; N], Box<dyn AnyError>> {
    let numbers = text.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    numbers.try_into().map_err(|_| "expected other numbers".into())
}

/// As the Python package does: another user's session is not followed, and how many were not is told.
fn follow() -> Result<String, Box<dyn AnyError>> {
    let mut refused = 0;
    let mut count = |error: &Error| {
        let Error::Foreign(foreign) = error else { panic!("{error:?}") };
        assert!(foreign.uid == Some(65534) && foreign.pid.is_some_and(|pid| pid != std::process::id()), "{foreign:?}");
        refused += 1;
        Ok(())
    };
    let arena = session::ensure(&Told::by_environment(), &Deadline::never(), &mut count)?;
    Ok(format!("{} {refused}", id(arena)))
}

/// The sessions that so many threads find at once, each once.
fn at_once(threads: usize) -> String {
    let barrier = std::sync::Barrier::new(threads);
    let found: BTreeSet<String> = std::thread::scope(|scope| {
        let seek = || {
            barrier.wait();
            ndshare::session().map_or_else(|error| error.to_string(), |arena| id(arena))
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(seek)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    found.into_iter().collect::<Vec<_>>().join(" ")
}

/// A folder for the user's registry of names, which nobody else uses.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, SeqCst);
        let path = std::env::temp_dir().join(format!("ndshare-names-{}-{number}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    /// A peer's command, told of a session in this way.
    fn command(&self, told: &str) -> Command {
        let mut command = command(&std::env::current_exe().unwrap());
        command.env(VARIABLE, told).env("XDG_RUNTIME_DIR", &self.0);
        command
    }

    /// The files of the registry.
    fn files(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.0.join("ndshare")).into_iter().flatten().flatten();
        listed.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// ---- the tests -----------------------------------------------------------------------------------------------------

#[test]
fn a_child_joins_by_its_environment_and_has_the_very_bytes() {
    let mut root = Peer::alone();
    let mut child = Peer::told(&root.ask("environment"));
    assert_eq!(child.ask("known"), "", "a process looks for its session at its first need");
    let gift = root.ask("make 41");
    assert_eq!(child.ask(&format!("claim {gift}")), "");
    assert_eq!(child.ask("add 1"), "41");
    assert_eq!(root.ask("read"), "42");
    assert_eq!(child.ask("id"), root.ask("id"));
    assert_eq!(child.ask("known"), root.ask("id"));
    assert_ne!(Peer::alone().ask("id"), root.ask("id"));
}

#[test]
fn each_process_names_itself_before_the_root() {
    let mut root = Peer::alone();
    let by_root = root.ask("environment");
    let mut child = Peer::told(&by_root);
    let by_child = child.ask("environment");
    let pid_of = |locator: &str| locator.split('-').nth(2).unwrap().parse::<u32>().unwrap();
    let pids: Vec<u32> = by_child.split(',').map(pid_of).collect();
    assert_eq!(pids, [child.process.id(), root.process.id()]);
    assert_eq!(pid_of(&by_root), root.process.id());
    let by_grandchild = Peer::told(&by_child).ask("environment");
    assert_eq!(by_grandchild.split(',').nth(1), Some(by_root.as_str()));
}

/// Once the last candidate of all was passed on as the root, whatever session it was of. The grandchildren would have
/// gone there when their parent was gone.
#[test]
fn the_root_that_is_passed_on_is_the_sessions_own() {
    let (mut root, mut other) = (Peer::alone(), Peer::alone());
    let mixed = format!("{},{},garbage", root.ask("environment"), other.ask("environment"));
    let mut child = Peer::told(&mixed);
    assert_eq!(child.ask("id"), root.ask("id"));
    let by_child = child.ask("environment");
    assert_eq!(by_child.split(',').nth(1), Some(root.ask("environment").as_str()));
}

#[test]
fn the_session_outlives_the_process_that_made_it() {
    let mut root = Peer::alone();
    let (by_root, session) = (root.ask("environment"), root.ask("id"));
    let mut child = Peer::told(&by_root);
    let (kept, in_flight) = (root.ask("make 1"), root.ask("make 2"));
    child.ask(&format!("claim {kept}"));
    root.kill();
    assert_eq!(child.ask("read"), "1");
    assert_eq!(child.ask("alive"), child.process.id().to_string(), "who died is swept");
    assert_eq!(child.ask(&format!("claim {in_flight}")), "", "what it sent is still in flight");
    assert_eq!(child.ask("read"), "2");
    for told in [child.ask("environment"), by_root.clone()] {
        let mut grandchild = Peer::told(&told);
        assert_eq!(grandchild.ask("id"), session, "told {told}");
        let gift = child.ask("make 3");
        grandchild.ask(&format!("claim {gift}"));
        assert_eq!(grandchild.ask("read"), "3");
    }
    let by_child = child.ask("environment");
    child.kill();
    assert_ne!(Peer::told(&by_child).ask("id"), session, "nobody has it any more");
}

#[test]
fn processes_share_the_values_of_a_named_cache() {
    let mut root = Peer::alone();
    let mut child = Peer::told(&root.ask("environment"));
    assert_eq!(root.ask("tile 1 10"), "10 of 1");
    assert_eq!(child.ask("tile 1 20"), "10 of 1", "it is there: nothing is loaded");
    assert_eq!(child.ask("tile 2 30"), "30 of 2");
    assert_eq!(root.ask("tile 2 40"), "30 of 2");
    root.kill();
    assert_eq!(child.ask("tile 1 50"), "10 of 2", "the cache lasts as long as somebody has it");
    assert_eq!(Peer::alone().ask("tile 1 60"), "60 of 1", "another session has caches of its own");
}

/// A process that dies while it joins leaves nothing behind, and the others go on.
#[test]
fn a_death_while_joining_is_swept_up() {
    let points = ndshare::KILL_POINTS.iter().filter(|label| label.starts_with("join:"));
    assert!(ndshare::KILL_POINTS.is_empty() || points.clone().count() > 0);
    let mut root = Peer::alone();
    let environment = root.ask("environment");
    for label in points {
        let mut child = Peer::told(&environment);
        child.ask(&format!("die-at {label}"));
        child.tell("id");
        let status = child.process.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "nobody passes {label}");
        assert_eq!(root.ask("alive"), root.process.id().to_string(), "{label}");
        let mut next = Peer::told(&environment);
        assert_eq!(next.ask("id"), root.ask("id"), "{label}");
    }
}

#[test]
fn what_names_no_session_is_not_followed() {
    let mut root = Peer::alone();
    let (session, pid) = (root.ask("id"), std::process::id());
    for stale in ["garbage", "", ",,", "nds1-", "\u{2603}", &format!("nds1-0123456789abcdef-{pid}-3")] {
        let mut child = Peer::told(stale);
        let own = child.ask("id");
        assert_ne!(own, session, "{stale:?}");
        assert_eq!(own.len(), 16, "{stale:?}: {own}");
        assert_eq!(child.ask("environment").split(',').count(), 1, "{stale:?}");
    }
}

#[test]
fn threads_that_come_at_once_find_one_session() {
    let mut root = Peer::alone();
    let session = root.ask("id");
    let mut child = Peer::told(&root.ask("environment"));
    assert_eq!(child.ask("threads 8"), session);
    let made = Peer::alone().ask("threads 8");
    assert_eq!(made.len(), 16, "one session was made, and all have it: {made}");
}

#[test]
fn a_text_joins_a_process_that_has_no_session_yet() {
    let mut root = Peer::alone();
    let (text, session) = (root.ask("environment"), root.ask("id"));
    let mut child = Peer::alone();
    assert_eq!(child.ask(&format!("join {text}")), session);
    assert_eq!(child.ask(&format!("join {text}")), session, "a second time does no harm");
    assert_eq!(child.ask("id"), session);
    let mut late = Peer::alone();
    let own = late.ask("id");
    let refused = late.ask(&format!("join {text}"));
    assert!(refused.starts_with("Misuse ") && refused.contains(&own), "{refused}");
    assert_eq!(late.ask("id"), own);
    let mut lost = Peer::alone();
    root.kill();
    child.kill();
    for gone in [text.as_str(), "garbage", ""] {
        assert!(lost.ask(&format!("join {gone}")).starts_with("Unreachable "), "{gone:?}");
    }
    assert_eq!(lost.ask("known"), "", "nothing was made instead");
}

#[test]
fn the_session_of_a_sender_is_adopted_where_there_is_none() {
    let (mut sender, mut parent) = (Peer::alone(), Peer::alone());
    let locator = sender.ask("environment");
    let mut bare = Peer::alone();
    assert_eq!(bare.ask(&format!("adopt {locator}")), sender.ask("id"));
    assert_eq!(bare.ask("id"), sender.ask("id"));
    let mut own = Peer::alone();
    own.ask("id");
    assert_eq!(own.ask(&format!("adopt {locator}")), own.ask("id"));
    let mut told = Peer::told(&parent.ask("environment"));
    assert_eq!(told.ask(&format!("adopt {locator}")), parent.ask("id"), "what a parent says goes first");
    sender.kill();
    bare.kill();
    assert_eq!(Peer::alone().ask(&format!("adopt {locator}")), "none");
}

#[test]
fn the_budget_comes_from_the_environment_of_whoever_makes_the_session() {
    let start = |budget: &str| Peer::start(command(&std::env::current_exe().unwrap()).env(BUDGET_VARIABLE, budget));
    let mut root = start("100 MiB");
    assert_eq!(root.ask("budget"), (100 << 20).to_string());
    assert_eq!(start("").ask("budget"), Peer::alone().ask("budget"));
    for bad in ["much", "0", "-1", "9999999 TiB"] {
        let mut peer = start(bad);
        let refused = peer.ask("budget");
        assert!(refused.starts_with("InvalidValue NDSHARE_BUDGET: "), "{bad}: {refused}");
        assert_eq!(peer.ask("known"), "", "{bad}");
    }
}

/// A program that everybody may run.
struct Copied(PathBuf);

impl Copied {
    fn new() -> Self {
        static COPIES: AtomicU32 = AtomicU32::new(0);
        // One for each test: nobody can write over a program that another test runs ("Text file busy").
        let (pid, number) = (std::process::id(), COPIES.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(format!("ndshare-session-{pid}-{number}"));
        // Another process writes it: a test beside this one that forks would hold a descriptor of this one's until it
        // runs its own program, and nobody runs a file that somebody may write.
        let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&path).status().unwrap();
        assert!(copied.success(), "{copied}");
        Self(path)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What is in it is not to be trusted, also where this process may open it (`sudo -E`, a cron job). A Rust program cannot
/// be warned, so it gets an error, and decides.
#[test]
fn a_session_of_another_users_is_an_error_unless_the_program_goes_on() {
    const NOBODY: u32 = 65534;
    let copied = Copied::new();
    let is_root = Command::new(&copied.0).arg("--list").stdout(Stdio::null()).uid(NOBODY).status().is_ok();
    if !is_root {
        eprintln!("skipped: only root can start another user's process");
        return;
    }
    let mut stranger = Peer::start(command(&copied.0).uid(NOBODY).gid(NOBODY));
    let foreign = stranger.ask("environment");
    let refused = Peer::told(&foreign).ask("id");
    assert!(refused.starts_with("Foreign ") && refused.contains("belongs to uid 65534"), "{refused}");
    let mut bold = Peer::told(&foreign);
    let (own, count) = bold.ask("follow").split_once(' ').map(|(id, count)| (id.to_owned(), count.to_owned())).unwrap();
    assert_eq!((own != stranger.ask("id"), count.as_str()), (true, "1"));
    assert_eq!(bold.ask("id"), own);
    let mut ours = Peer::alone();
    let both = format!("{foreign},{}", ours.ask("environment"));
    assert!(Peer::told(&both).ask("id").starts_with("Foreign "), "it was named first");
    assert_eq!(Peer::told(&both).ask("follow"), format!("{} 1", ours.ask("id")));
}

// ---- sessions by name ----------------------------------------------------------------------------------------------

#[test]
fn strangers_meet_in_the_session_of_a_name_which_ends_with_the_last() {
    let folder = Folder::new();
    let [mut first, mut second, mut other] = ["lab", "lab", "other"].map(|name| Peer::named(name, &folder));
    let session = first.ask("id");
    assert_eq!(second.ask("id"), session);
    assert_ne!(other.ask("id"), session);
    let gift = first.ask("make 7");
    second.ask(&format!("claim {gift}"));
    assert_eq!(second.ask("read"), "7");
    first.kill();
    let mut third = Peer::named("lab", &folder);
    assert_eq!(third.ask("id"), session, "who made it may go");
    second.kill();
    assert_eq!(Peer::named("lab", &folder).ask("id"), session, "it was told anew who has it");
    third.kill();
    let mut fourth = Peer::named("lab", &folder);
    assert_ne!(fourth.ask("id"), session, "it ended with the last");
    assert_eq!(Peer::named("lab", &folder).ask("id"), fourth.ask("id"));
}

#[test]
fn of_those_who_come_at_once_one_makes_the_session() {
    let folder = Folder::new();
    for name in ["a", "b", "c"] {
        let mut peers: Vec<Peer> = (0..6).map(|_| Peer::named(name, &folder)).collect();
        peers.iter_mut().for_each(|peer| peer.tell("id"));
        let ids: BTreeSet<String> = peers.iter().map(|peer| peer.answers.recv_timeout(HANG).unwrap()).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
}

#[test]
fn children_inherit_the_name_for_when_nobody_else_is_left() {
    let folder = Folder::new();
    let mut first = Peer::named("lab", &folder);
    let inherited = first.ask("environment");
    assert!(inherited.ends_with(",@lab") && inherited.split(',').count() == 2, "{inherited}");
    let mut child = Peer::start(&mut folder.command(&inherited));
    assert_eq!(child.ask("id"), first.ask("id"));
    assert!(child.ask("environment").ends_with(",@lab"));
    let mut stranger = Peer::named("lab", &folder);
    let session = stranger.ask("id");
    [&mut first, &mut child].into_iter().for_each(Peer::kill);
    assert_eq!(Peer::start(&mut folder.command(&inherited)).ask("id"), session, "by its name");
}

#[test]
fn a_program_names_its_session_before_it_uses_one() {
    let folder = Folder::new();
    let alone = || Peer::start(&mut folder.command(""));
    let mut first = alone();
    let own = first.ask("id");
    first.ask("make 1");
    assert_eq!(first.ask("named lab"), own, "nobody has the name, so the session gets it");
    assert_eq!(first.ask("named lab"), own);
    let refused = first.ask("named other");
    assert!(refused.starts_with("Misuse ") && refused.contains("\"lab\""), "{refused}");
    let mut unused = alone();
    assert_ne!(unused.ask("id"), own);
    assert_eq!(unused.ask("named lab"), own, "it had not used its own");
    assert_eq!(unused.ask("id"), own);
    let mut fresh = alone();
    assert_eq!(fresh.ask("named lab"), own);
    let mut used = alone();
    used.ask("make 1");
    let refused = used.ask("named lab");
    assert!(refused.starts_with("Misuse ") && refused.contains("before the first"), "{refused}");
    assert_eq!(used.ask("read"), "1");
}

#[test]
fn what_cannot_be_a_name_is_an_error_that_says_so() {
    let folder = Folder::new();
    let long = "x".repeat(201);
    for bad in ["", ".", "..", "a/b", "../x", "a\tb", &long] {
        let mut peer = Peer::named(bad, &folder);
        for order in ["id".to_owned(), format!("named {bad}"), format!("unpublish {bad}"), format!("attach {bad}")] {
            let refused = peer.ask(&order);
            assert!(refused.starts_with("InvalidValue expected a name of 1 to 200 bytes"), "{order:?}: {refused}");
        }
    }
    assert_eq!(Peer::named("a b é %", &folder).ask("id").len(), 16);
    assert_eq!(folder.files(), ["session-a b é %"]);
}

/// Who dies on the way to the registry leaves nothing that hinders others.
#[test]
fn a_death_at_any_point_of_the_registry_hinders_nobody() {
    let points: Vec<_> = ndshare::KILL_POINTS.iter().filter(|label| label.starts_with("directory:")).collect();
    for label in points {
        let folder = Folder::new();
        let mut victim = Peer::named("lab", &folder);
        if *label == "directory:removed" {
            // Only who takes a name away comes there.
            victim.ask("make 1");
            victim.ask("publish gone");
        }
        victim.ask(&format!("die-at {label}"));
        victim.tell(if *label == "directory:removed" { "unpublish gone" } else { "id" });
        let status = victim.process.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "nobody passes {label}");
        let [mut next, mut other] = [(); 2].map(|()| Peer::named("lab", &folder));
        assert_eq!(next.ask("id"), other.ask("id"), "{label}");
        next.ask("make 5");
        assert_eq!(next.ask("publish five"), "", "{label}");
        assert_eq!(other.ask("names"), "array five", "{label}");
        assert_eq!(folder.files().len(), 2, "{label}: {:?}", folder.files());
    }
}

/// A umask takes rights from files that are made, also from their owner, who is not root here.
#[test]
fn every_umask_serves() {
    const NOBODY: u32 = 65534;
    let copied = Copied::new();
    if Command::new(&copied.0).arg("--list").stdout(Stdio::null()).uid(NOBODY).status().is_err() {
        eprintln!("skipped: only root can start another user's process");
        return;
    }
    for umask in ["000", "022", "077", "277", "777"] {
        let folder = Folder::new();
        std::os::unix::fs::chown(&folder.0, Some(NOBODY), Some(NOBODY)).unwrap();
        let mut peers = [(); 2].map(|()| {
            let script = format!("umask {umask}; exec \"$0\" peer --exact --ignored --nocapture");
            let told = folder.command("@lab");
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).arg(&copied.0).uid(NOBODY).gid(NOBODY);
            for (name, value) in told.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            Peer::start(&mut command)
        });
        let [first, second] = &mut peers;
        assert_eq!(first.ask("id"), second.ask("id"), "{umask}");
        first.ask("hold 3");
        assert_eq!(first.ask("publish x"), "", "{umask}");
        assert_eq!(second.ask("attach x"), "3", "{umask}");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        let registry = folder.0.join("ndshare");
        assert_eq!(mode(&registry), 0o700, "{umask}");
        for file in folder.files() {
            assert_eq!(mode(&registry.join(file)), 0o600, "{umask}");
        }
    }
}

// ---- names for strangers -------------------------------------------------------------------------------------------

#[test]
fn a_name_lasts_as_long_as_anybody_has_its_object() {
    let folder = Folder::new();
    let alone = || Peer::start(&mut folder.command(""));
    let (mut first, mut second) = (alone(), alone());
    let missing = second.ask("attach x");
    assert!(missing.starts_with("Timeout ") && missing.contains("\"x\"") && missing.contains("no names"), "{missing}");
    first.ask("hold 41");
    assert_eq!(first.ask("publish x"), "");
    assert_eq!(first.ask("drop"), "1");
    assert_eq!(second.ask("attach x"), "41", "who published it keeps it");
    assert_ne!(second.ask("id"), first.ask("id"), "each has a session of its own");
    first.kill();
    let mut third = alone();
    assert_eq!(third.ask("names"), "array x");
    assert_eq!(third.ask("attach x"), "41", "who published it is gone");
    let taken = {
        third.ask("hold 1");
        third.ask("publish x")
    };
    assert!(taken.starts_with("Misuse ") && taken.contains("one that lives (array"), "{taken}");
    [&mut second, &mut third].into_iter().for_each(Peer::kill);
    let mut fourth = alone();
    let gone = fourth.ask("attach x");
    assert!(gone.starts_with("Timeout "), "{gone}");
    assert_eq!(folder.files(), [""; 0], "the dead entry went with the look");
    fourth.ask("hold 2");
    assert_eq!(fourth.ask("publish x"), "");
    assert_eq!(alone().ask("unpublish x"), "true");
    assert_eq!((fourth.ask("names"), fourth.ask("unpublish x")), (String::new(), "false".to_owned()));
    fourth.ask("drop");
    assert_eq!(fourth.ask("bytes"), "0", "it let go when it saw that somebody took the name away");
    assert!(!folder.0.join("ndshare").exists(), "nothing is left behind");
}
