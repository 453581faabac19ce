//! The head of an HTTP request, and whether it is answered at all.
//!
//! A page of another site may make the browser ask this server, and its name may lead here (DNS rebinding). So a request has
//! the token, which such a page does not know, in its path; it names this machine's loopback as its host; and where it says
//! from which page it comes, that is one of ours.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// A longer head is no browser's.
const MOST_BYTES: usize = 16 << 10;
const MOST_HEADERS: usize = 64;
/// A head that is not there after this long does not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// What of a request counts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Request {
    method: String,
    path: String,
    host: Vec<String>,
    origin: Vec<String>,
    upgrade: Option<String>,
    version: Option<String>,
    key: Option<String>,
}

/// How a request is answered.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// By a file of the page.
    File(String),
    /// By a WebSocket, with what is made of this key.
    Socket(String),
    /// With this status and a sentence.
    Refusal(u16, &'static str),
}

/// Reads again where a signal came between: a read with a time limit ends so when the process was stopped, as by Ctrl-Z.
pub(super) fn unbroken(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    // BOUND: the signals that come.
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Request {
    /// Reads a head, and nothing behind it: a browser says nothing more before it is answered.
    ///
    /// # Errors
    /// `InvalidData` for what is no head; `TimedOut`; whatever reading says.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let (mut bytes, begun) = (Vec::new(), Instant::now());
        let mut piece = [0; 2048];
        // BOUND: `MOST_BYTES`, `PATIENCE`, or the end of what comes.
        loop {
            let count = unbroken(|| from.read(&mut piece))?;
            bytes.extend(&piece[..count]);
            if let Some(request) = Self::parse(&bytes)? {
                return Ok(request);
            }
            if count == 0 || bytes.len() > MOST_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if begun.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// None when it is not there as a whole.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let status = head.parse(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if status.is_partial() {
            return Ok(None);
        }
        let mut request = Self {
            method: head.method.unwrap_or_default().to_owned(),
            path: head.path.unwrap_or_default().to_owned(),
            ..Self::default()
        };
        for header in head.headers.iter() {
            let value = String::from_utf8_lossy(header.value).trim().to_owned();
            match header.name.to_ascii_lowercase().as_str() {
                "host" => request.host.push(value),
                "origin" => request.origin.push(value),
                "upgrade" => request.upgrade = Some(value),
                "sec-websocket-version" => request.version = Some(value),
                "sec-websocket-key" => request.key = Some(value),
                _ => {}
            }
        }
        Ok(Some(request))
    }

    /// How it is answered by who has this token.
    pub(super) fn answer(&self, token: &str) -> Answer {
        let [host] = &self.host[..] else { return Answer::Refusal(400, "expected one Host header") };
        if !is_loopback(host) {
            return Answer::Refusal(403, "this server answers to 127.0.0.1 and localhost alone");
        }
        if self.origin.iter().any(|origin| *origin != format!("http://{host}")) {
            return Answer::Refusal(403, "this server answers to its own page alone");
        }
        let Some(file) = self.file(token) else {
            return Answer::Refusal(403, "the address has no token, or another one: take it from `ndshare view`");
        };
        match (self.method.as_str(), &self.upgrade, &self.key) {
            ("GET", None, _) => Answer::File(file.to_owned()),
            ("GET", Some(upgrade), Some(key)) if upgrade.eq_ignore_ascii_case("websocket") && file == "socket" => {
                if self.origin.is_empty() {
                    return Answer::Refusal(403, "expected the Origin of the page");
                }
                if self.version.as_deref() != Some("13") {
                    return Answer::Refusal(426, "expected version 13 of the WebSocket protocol");
                }
                Answer::Socket(key.clone())
            }
            ("GET", ..) => Answer::Refusal(400, "expected a WebSocket at the address of the socket"),
            _ => Answer::Refusal(405, "expected GET"),
        }
    }

    /// What stands behind the token in the path.
    fn file(&self, token: &str) -> Option<&str> {
        let path = self.path.split(['?', '#']).next()?;
        let (said, file) = path.strip_prefix('/')?.split_once('/')?;
        is_same(said, token).then_some(file)
    }
}

/// Whether a host is this machine's loopback, with any port: a tunnel may have another one.
fn is_loopback(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "80"));
    port.parse::<u16>().is_ok() && ["127.0.0.1", "localhost"].contains(&name.to_ascii_lowercase().as_str())
}

/// Compares in a time that does not tell where they differ.
fn is_same(said: &str, token: &str) -> bool {
    let differing = said.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    said.len() == token.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: &str = "GET /t0k/socket HTTP/1.1\r\nHost: 127.0.0.1:80\r\nOrigin: http://127.0.0.1:80\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc\r\n\r\n";

    fn answer(head: &str) -> Answer {
        Request::read(&mut head.as_bytes()).unwrap().answer("t0k")
    }

    fn status(head: &str) -> u16 {
        match answer(head) {
            Answer::Refusal(status, _) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_page_and_its_socket_are_served() {
        let page = "GET /t0k/main.js?x HTTP/1.1\r\nHost: localhost:1234\r\nOrigin: http://localhost:1234\r\n\r\n";
        assert_eq!(answer(page), Answer::File("main.js".to_owned()));
        assert_eq!(answer("GET /t0k/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), Answer::File(String::new()));
        assert_eq!(answer(SOCKET), Answer::Socket("abc".to_owned()));
        // A head may come in pieces.
        let (first, rest) = SOCKET.split_at(20);
        assert_eq!(
            Request::read(&mut first.as_bytes().chain(rest.as_bytes())).unwrap().answer("t0k"),
            Answer::Socket("abc".into())
        );
    }

    #[test]
    fn all_others_are_refused() {
        for path in ["/", "/t0k", "/t0K/", "/t0/", "/t0kk/", "/x/t0k/", "//t0k/", "t0k/"] {
            assert_eq!(status(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")), 403, "{path}");
        }
        for host in [
            "evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "localhost.",
            "127.0.0.1:x",
            "10.0.0.1",
            "[::1]",
        ] {
            assert_eq!(status(&format!("GET /t0k/ HTTP/1.1\r\nHost: {host}\r\n\r\n")), 403, "{host}");
        }
        for origin in ["http://evil.example", "https://localhost", "http://localhost:81", "null", ""] {
            assert_eq!(
                status(&format!("GET /t0k/ HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n")),
                403,
                "{origin}"
            );
        }
        assert_eq!(status("GET /t0k/ HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET /t0k/ HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"), 400);
        assert_eq!(status("POST /t0k/ HTTP/1.1\r\nHost: localhost\r\n\r\n"), 405);
        assert_eq!(status(&SOCKET.replace("Origin: http://127.0.0.1:80\r\n", "")), 403);
        assert_eq!(status(&SOCKET.replace("13", "8")), 426);
        assert_eq!(status(&SOCKET.replace("/socket", "/main.js")), 400);
        assert_eq!(status(&SOCKET.replace("t0k", "t1k")), 403);
    }

    #[test]
    fn what_is_no_head_ends() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(MOST_BYTES));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(MOST_HEADERS + 1));
        for head in ["", "GET", "\0\0\0\0", "GET / SPDY/9\r\n\r\n", &long, &many] {
            assert!(Request::read(&mut head.as_bytes()).is_err(), "{head:.40}");
        }
    }
}
