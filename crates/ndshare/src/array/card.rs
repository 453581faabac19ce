//! A head that keeps an array and says what it is, so that the array can have a name that outlives all processes.

use super::kept::{KeptKind, OWN_WORDS_AT};
use super::token::Token;
use crate::arena::{Deadline, Hold};
use crate::error::Result;
use crate::head::HeadKind;

/// Its description is a token. What that says of the place is not believed: the head has the block.
const CARD: KeptKind = KeptKind { kind: HeadKind::Array, version: 1, description_at: OWN_WORDS_AT };

/// A new head of the array that a token says is in a block.
pub(crate) fn make_card(token: &Token, block: &Hold, deadline: &Deadline) -> Result<Hold> {
    let bare = Token { ticket: None, is_session: false, ..token.clone() };
    CARD.make(block.arena(), block, &bare.encode(), deadline)
}

/// The array of such a head: what it is, and the block that it is in.
///
/// # Errors
/// `WrongKind`, `Poisoned` when the block is no such head; `InvalidValue` when its description is none.
pub(crate) fn read_card(head: &Hold) -> Result<(Token, Hold)> {
    let (block, bytes) = CARD.open(head)?;
    let token = Token { ticket: None, is_session: false, ..Token::decode(&bytes)? };
    Ok((Token { locator: block.arena().locator(), block: block.block(), ..token }, block))
}
