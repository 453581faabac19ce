//! `ndshare rm`: takes names from the user's registry.

use std::io::{self, Write};
use std::time::Duration;

use ndshare::{Deadline, names, session};
use serde_json::json;

use crate::Outcome;
use crate::args::Rm;
use crate::text::printable;

/// How long another process may have the lock of the registry.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(wanted: &Rm, is_json: bool, out: &mut dyn Write) -> Outcome {
    let (mut removed, mut is_good) = (Vec::new(), true);
    for name in &wanted.names {
        if names::unpublish(name, &Deadline::after(PATIENCE))? {
            removed.push(name.clone());
        } else {
            is_good = false;
            writeln!(io::stderr(), "ndshare: expected a published name, got {name:?}: see ndshare ls")?;
        }
    }
    if wanted.dead {
        removed.extend(remove_dead()?);
    }
    if is_json {
        writeln!(out, "{}", json!({ "removed": removed }))?;
    } else {
        for name in removed {
            writeln!(out, "{}", printable(&name))?;
        }
    }
    Ok(is_good)
}

/// What the registry lists: names, and sessions as "@name".
fn listed() -> ndshare::Result<Vec<String>> {
    let sessions = session::listed()?.into_iter().map(|(name, _)| format!("@{name}"));
    Ok(sessions.chain(names::listed()?.into_iter().map(|one| one.name)).collect())
}

/// Whoever lists names removes the dead ones.
fn remove_dead() -> ndshare::Result<Vec<String>> {
    let before = listed()?;
    let _ = names::names()?;
    let after = listed()?;
    Ok(before.into_iter().filter(|name| !after.contains(name)).collect())
}
