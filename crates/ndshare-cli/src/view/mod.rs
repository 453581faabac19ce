//! `ndshare view`: rings and arrays in the browser, live.
//!
//! From below:
//!
//! - `bell`: waking who waits. `convert`: bytes as numbers. `shown`: a frame that is looked at; `field`: which of its arrays;
//!   `plane`: the picture in it; `reduce`: made as small as its window. `wish`: what a page asks for. `measure`, `spectrum`: what is told beside the
//!   picture. `message`: all of it as bytes; `tiff`: as a file.
//! - `place`: where a ring or an array is found; `source`: following it. `client`: one page that looks on.
//! - `request`: who is answered. `page`: the files of the page. `server`: connections. `browser`: opening it.

mod bell;
mod browser;
mod client;
mod convert;
mod field;
mod measure;
mod message;
mod page;
mod place;
mod plane;
mod reduce;
mod request;
mod server;
mod shown;
mod source;
mod spectrum;
mod tiff;
mod wish;

use std::io::{self, Read, Write};
use std::os::unix::process::parent_id;
use std::sync::Arc;
use std::thread;

use ndshare::os::parent::end_with;
use serde_json::json;

use crate::Outcome;
use crate::args::View;
use place::Place;
use server::Server;
use source::Source;

/// Bytes as the head of a request, and as a message of a page, for fuzzers: whether they are one.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn hear(bytes: &[u8]) -> bool {
    let request = request::Request::parse(bytes).ok().flatten();
    let is_answered = request.is_some_and(|request| {
        // Who does not know the token is refused, whatever else is said.
        assert!(matches!(request.answer("a token that nobody knows"), request::Answer::Refusal(400.., _)));
        !matches!(request.answer("t"), request::Answer::Refusal(..))
    });
    is_answered | std::str::from_utf8(bytes).is_ok_and(|text| wish::parse(text).is_ok())
}

pub(crate) fn run(wanted: &View, is_json: bool, out: &mut dyn Write) -> Outcome {
    let port = wanted.port;
    let listener = server::listen(port)
        .map_err(|error| format!("listening at port {port} of 127.0.0.1 failed: {error}; take another by --port"))?;
    let server = Server::new(listener, sources(wanted)?);
    let address = server.address()?;
    match is_json {
        true => writeln!(out, "{}", json!({ "url": address }))?,
        false => writeln!(out, "{address}\nCtrl-C ends it. Who has this address sees what is shown.")?,
    }
    out.flush()?;
    if !wanted.no_browser
        && let Err(error) = browser::open(&address)
    {
        writeln!(io::stderr(), "ndshare: no browser could be opened ({error}): open the address in one")?;
    }
    if wanted.until_end {
        end_with_input()?;
    }
    Arc::new(server).run()
}

/// What is to be shown: names first, then references.
fn sources(wanted: &View) -> Result<Vec<Arc<Source>>, Box<dyn std::error::Error>> {
    let named = wanted.names.iter().map(|name| {
        let place = match (&wanted.session, &wanted.arena) {
            (Some(session), _) => Place::InSession { session: session.clone(), ring: name.clone() },
            (None, Some(path)) => Place::InArena { path: path.clone(), ring: name.clone() },
            (None, None) => Place::Published(name.clone()),
        };
        Ok((name.clone(), place))
    });
    let referred = wanted.reference.iter().map(|said| {
        let (text, name) = said.split_once(' ').unwrap_or((said, ""));
        Ok((name.to_owned(), Place::Reference(text.parse()?)))
    });
    let places = named.chain(referred).collect::<Result<Vec<_>, ndshare::Error>>()?;
    Ok(places.into_iter().map(|(name, place)| Source::follow(name, place)).collect::<io::Result<_>>()?)
}

/// Ends this process with the one that started it, and when its standard input ends. That one alone is not enough: a forked
/// child of that process may have the other end.
fn end_with_input() -> Result<(), Box<dyn std::error::Error>> {
    end_with(parent_id(), 0)?;
    thread::Builder::new().name("ndshare-end".to_owned()).spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        browser::forget();
        std::process::exit(0);
    })?;
    Ok(())
}
