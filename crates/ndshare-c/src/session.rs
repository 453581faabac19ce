//! Which memory this process shares, and with whom.

use crate::error::{call, call_for_text, nds_code};
use crate::raw::text;
use ndshare::cache::give_way_when_short;
use ndshare::{Arena, Result, Session, session};
use std::ffi::c_char;
use std::sync::Arc;

/// The session's arena, for what is made in it.
pub(crate) fn arena() -> Result<Arc<Arena>> {
    // Other processes may have filled it with values of caches.
    give_way_when_short();
    session::session().map(|session| session.arena().clone())
}

/// Joins the session that the environment of this process names (`NDSHARE_SESSION`), or starts one. Other functions do
/// so at their first need; a program that opens references joins the session that they are from.
#[unsafe(no_mangle)]
pub extern "C" fn nds_session_start() -> nds_code {
    call(|| arena().map(drop))
}

/// Joins the session of a text that `nds_session_locators`, or `NDSHARE_SESSION` of another process, has. Before the
/// first use of anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_session_join(locators: *const c_char) -> nds_code {
    call(|| {
        // SAFETY: the caller gives null or a C string.
        let locators = unsafe { text("the locators of a session", locators) }?;
        session::join(locators).map(drop)
    })
}

/// The text that takes other processes into this session: the value of `NDSHARE_SESSION` for those that this program
/// starts. NULL for an error. It stays until this thread asks for its next text.
#[unsafe(no_mangle)]
pub extern "C" fn nds_session_locators() -> *const c_char {
    call_for_text(|| session::session().map(Session::locators))
}
