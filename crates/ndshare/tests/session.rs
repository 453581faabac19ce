//! A session of several processes, all of them in Rust: who starts it, who finds it and how, and who dies.
//!
//! A peer is this very program, which runs one test that does what it is told on its input.

use ndshare::arena::{Arena, BlockId, Deadline, Hold, TicketId};
use ndshare::array::Array;
use ndshare::cache::{Cache, Geometry, Key};
use ndshare::prim::Ordering::SeqCst;
use ndshare::session::{self, BUDGET_VARIABLE, Told, VARIABLE};
use ndshare::{Error, Kind};
use std::collections::BTreeSet;
use std::error::Error as AnyError;
use std::io::{BufRead, BufReader, Write};
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

fn obey(order: &str, held: &mut Vec<Hold>) -> Result<String, Box<dyn AnyError>> {
    let forever = Deadline::never();
    let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
    match verb {
        "id" => Ok(id(&*ndshare::session()?)),
        "known" => Ok(session::known().map_or_else(String::new, |arena| id(arena))),
        "environment" => Ok(session::environment()?.1),
        "budget" => Ok(ndshare::session()?.budget_bytes().to_string()),
        "join" => Ok(id(&*session::join(rest)?)),
        "adopt" => Ok(session::adopt(rest.parse()?)?.map_or_else(|| "none".into(), |arena| id(&arena))),
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
            let cache = Cache::named(&arena, "tiles", Geometry::new(1 << 20, None)?, &forever)?;
            let load = |_: &Key| Array::from_slice(&arena, &[1], &[loaded]);
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
            ndshare::session().map_or_else(|error| error.to_string(), |arena| id(&arena))
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(seek)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    found.into_iter().collect::<Vec<_>>().join(" ")
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
    for stale in ["garbage", "", ",,", "nds1-", "@name", "\u{2603}", &format!("nds1-0123456789abcdef-{pid}-3")] {
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
        let path = std::env::temp_dir().join(format!("ndshare-session-{}", std::process::id()));
        std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
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
