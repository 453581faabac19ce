//! `ndshare check`: the invariants of arenas, of the names in them, and of their rings, caches and overlays.
//!
//! Nobody is disturbed, so others work while it looks. What a lock guards is read at a moment when nobody has it; the rest may
//! be in the middle of a change. So a finding counts when three looks have it, with a pause between them.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use ndshare::arena::{Finding, Locator, Look, Rule};
use ndshare::head::HeadKind;
use ndshare::{cache, overlay, registry, ring, session};
use serde_json::{Value, json};

use crate::args::{Check, is_path};
use crate::proc::{self, Place, Seen, path_value, told_of};
use crate::text::printable;
use crate::{Blind, Outcome};

/// How long an arena may take to be still.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks after the first one that found something.
const MORE_LOOKS: usize = 2;
const PAUSE: Duration = Duration::from_millis(20);
const LONG_PAUSE: Duration = Duration::from_millis(500);

/// One arena, and what was found in it.
struct Checked {
    id: String,
    place: Option<Place>,
    sessions: Vec<String>,
    rings: usize,
    caches: usize,
    overlays: usize,
    /// What somebody worked with all the time, so that it was looked at in part.
    not_still: Vec<String>,
    /// Or why nobody could look.
    findings: Result<Vec<Finding>, String>,
}

pub(crate) fn run(wanted: &Check, is_json: bool, out: &mut dyn Write) -> Outcome {
    let seen = proc::arenas(Path::new("/proc")).map_err(|error| Blind(format!("/proc could not be read: {error}")))?;
    let sessions = session::listed().map_err(|error| Blind(error.to_string()))?;
    let all = seen.iter().map(|seen| (seen, sessions_of(seen, &sessions)));
    let mut meant: Vec<_> = all.filter(|(seen, sessions)| is_meant(wanted, seen, sessions)).collect();
    let at_path;
    if let Some(target) = wanted.target.as_ref().filter(|_| meant.is_empty()) {
        at_path = named_by_path(target, &seen)?;
        meant.push((&at_path, sessions_of(&at_path, &sessions)));
    }
    let checked: Vec<Checked> = meant.into_iter().map(|(seen, sessions)| Checked::of(seen, sessions)).collect();
    if is_json {
        writeln!(out, "{:#}", Value::Array(checked.iter().map(Checked::value).collect()))?;
    } else {
        checked.iter().flat_map(Checked::lines).try_for_each(|line| writeln!(out, "{line}"))?;
    }
    let is_whole = |one: &Checked| one.findings.as_ref().is_ok_and(Vec::is_empty);
    let blind = checked.iter().find_map(|one| Some(format!("arena {}: {}", one.id, one.findings.as_ref().err()?)));
    match blind.filter(|_| checked.iter().all(|one| is_whole(one) || one.findings.is_err())) {
        Some(reason) => {
            out.flush()?;
            Err(Blind(reason).into())
        }
        None => Ok(checked.iter().all(is_whole)),
    }
}

/// What `ndshare check` finds in one arena that somebody has, as it says it; empty where the arena is whole.
///
/// # Errors
/// Why nobody could look, in words.
pub fn findings(place: &Locator) -> Result<Vec<String>, String> {
    let open = || Look::at(place).map_err(|error| error.to_string());
    let found = Checked::begin(format!("{:016x}", place.id), None, Vec::new()).confirm(&open)?;
    Ok(found.iter().map(|Finding { rule, place, found }| format!("{rule}: {place}: {}", printable(found))).collect())
}

/// The arena in the file that a word of the command line names.
fn named_by_path(target: &OsStr, all: &[Seen]) -> Result<Seen, Blind> {
    match is_path(target) {
        true => Seen::at_path(Path::new(target), all).map_err(Blind),
        false => Err(Blind(format!(
            "expected an arena or a session, or the path of an arena, got {target:?}: see ndshare ls"
        ))),
    }
}

fn sessions_of(seen: &Seen, sessions: &[(String, Locator)]) -> Vec<String> {
    let here = seen.number();
    sessions.iter().filter(|(_, place)| Some(place.id) == here).map(|(name, _)| name.clone()).collect()
}

fn is_meant(wanted: &Check, seen: &Seen, sessions: &[String]) -> bool {
    wanted.target.as_ref().is_none_or(|target| {
        let Some(target) = target.to_str() else { return false };
        let name = target.strip_prefix('@').unwrap_or(target);
        seen.id == target || sessions.iter().any(|session| session == name)
    })
}

impl Checked {
    fn of(seen: &Seen, sessions: Vec<String>) -> Self {
        let mut checked = Self::begin(seen.id.clone(), seen.place.clone(), sessions);
        checked.findings = checked.confirm(&|| seen.look());
        checked
    }

    fn begin(id: String, place: Option<Place>, sessions: Vec<String>) -> Self {
        let (not_still, findings) = (Vec::new(), Ok(Vec::new()));
        Self { id, place, sessions, rings: 0, caches: 0, overlays: 0, not_still, findings }
    }

    /// What all looks find.
    fn confirm(&mut self, open: &dyn Fn() -> Result<Look, String>) -> Result<Vec<Finding>, String> {
        let mut findings = self.look(&open()?)?;
        for _ in 0..MORE_LOOKS {
            if findings.is_empty() {
                break;
            }
            sleep(PAUSE);
            let again = self.look(&open()?)?;
            findings.retain(|finding| again.iter().any(|other| other.is_same(finding)));
        }
        if findings.iter().any(|finding| finding.rule == Rule::Kept) {
            // Who is just giving a block back may not have had a processor meanwhile.
            sleep(LONG_PAUSE);
            let again = self.look(&open()?)?;
            findings.retain(|finding| finding.rule != Rule::Kept || again.iter().any(|other| other.is_same(finding)));
        }
        Ok(findings)
    }

    fn look(&mut self, look: &Look) -> Result<Vec<Finding>, String> {
        let mut findings = look.audit(PATIENCE).map_err(|error| error.to_string())?;
        findings.extend(registry::audit(look));
        (self.rings, self.caches, self.overlays, self.not_still) = (0, 0, 0, Vec::new());
        for block in look.blocks() {
            let kind = look.head_kind(block);
            let (found, was_still) = match kind {
                Some(HeadKind::Ring) => ring::audit(look, block),
                Some(HeadKind::Cache) => cache::audit(look, block),
                Some(HeadKind::Overlay) => (overlay::audit(look, block), true),
                _ => continue,
            };
            findings.extend(found);
            self.rings += usize::from(kind == Some(HeadKind::Ring));
            self.caches += usize::from(kind == Some(HeadKind::Cache));
            self.overlays += usize::from(kind == Some(HeadKind::Overlay));
            if let Some(kind) = kind.filter(|_| !was_still) {
                let name = registry::name_of(look, block).map_or(String::new(), |name| format!(" {name:?}"));
                self.not_still.push(format!("{kind}{name} in block {}", block.index));
            }
        }
        look.check_len().map_err(|error| error.to_string())?;
        Ok(findings)
    }

    fn lines(&self) -> Vec<String> {
        let verdict = match &self.findings {
            Err(reason) => format!("not looked into: {}", printable(reason)),
            Ok(findings) if findings.is_empty() => {
                format!("whole (rings: {}, caches: {}, overlays: {})", self.rings, self.caches, self.overlays)
            }
            Ok(findings) => format!("{} findings", findings.len()),
        };
        let mut lines = vec![format!("arena {}{}: {verdict}", self.id, told_of(self.place.as_ref(), &self.sessions))];
        let in_part = |one: &String| format!("  looked at in part, for it was never still: {}", printable(one));
        lines.extend(self.not_still.iter().map(in_part));
        for Finding { rule, place, found } in self.findings.iter().flatten() {
            lines.push(format!("  {rule}: {place}: {}", printable(found)));
            lines.push(format!("    {}", rule.meaning()));
        }
        lines
    }

    fn value(&self) -> Value {
        let finding = |one: &Finding| {
            let (rule, meaning) = (one.rule.name(), one.rule.meaning());
            json!({ "rule": rule, "place": one.place, "found": one.found, "meaning": meaning })
        };
        let findings = self.findings.as_ref().ok().map(|all| all.iter().map(finding).collect::<Vec<_>>());
        json!({
            "id": self.id,
            "path": path_value(self.place.as_ref()),
            "sessions": self.sessions,
            "rings": self.rings,
            "caches": self.caches,
            "overlays": self.overlays,
            "not_still": self.not_still,
            "findings": findings,
            "unreadable": self.findings.as_ref().err(),
        })
    }
}
