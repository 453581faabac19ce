//! The server: HTTP for the files of the page, and a WebSocket for each page that looks on.
//!
//! A thread for each connection, and two for one with a WebSocket. They are few, and their number is bounded. All of them give
//! way to threads of others.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ndshare::os::thread::give_way;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::bell::locked;
use super::browser;
use super::client::{self, Inbox, Out};
use super::page;
use super::request::{Answer, Request, unbroken};
use super::source::Source;
use super::wish;

/// Pages that look on at once.
const MOST_PAGES: usize = 50;
/// Connections at once: those of pages, and those that fetch files.
const MOST_CONNECTIONS: usize = 100;
/// Who says nothing for so long before there is a WebSocket says nothing at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// A page answers pings, or it is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// A page that takes nothing for so long is gone.
const STUCK: Duration = Duration::from_secs(20);
/// What a page says is short.
const MOST_BYTES: usize = 64 << 10;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Server {
    sources: Vec<Arc<Source>>,
    token: String,
    listener: TcpListener,
    /// Who holds a clone is a page.
    pages: Arc<()>,
    connections: Arc<()>,
}

/// Listens on the loopback of this machine alone; port 0 is any that is free.
pub(super) fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

impl Server {
    /// A server at a listener, with a token that nobody can guess.
    pub(super) fn new(listener: TcpListener, sources: Vec<Arc<Source>>) -> Self {
        let token = format!("{:016x}{:016x}", ndshare::os::random_u64(), ndshare::os::random_u64());
        Self { sources, token, listener, pages: Arc::new(()), connections: Arc::new(()) }
    }

    /// Where it is, with the token.
    pub(super) fn address(&self) -> io::Result<String> {
        Ok(format!("http://{}/{}/", self.listener.local_addr()?, self.token))
    }

    /// Serves whoever comes, for as long as the process lives.
    pub(super) fn run(self: Arc<Self>) -> ! {
        give_way();
        // BOUND: the process.
        loop {
            let Ok((stream, _)) = self.listener.accept() else {
                // No descriptor is left, or the peer is gone already.
                thread::sleep(Duration::from_millis(20));
                continue;
            };
            let (server, place) = (self.clone(), self.connections.clone());
            if Arc::strong_count(&place) > MOST_CONNECTIONS + 1 {
                continue;
            }
            let named = thread::Builder::new().name("ndshare-page".to_owned());
            // A connection for which there is no thread is closed. What a peer does wrong is its own affair.
            let _ = named.spawn(move || {
                let _ = server.connect(stream);
                drop(place);
            });
        }
    }

    fn connect(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(STUCK))?;
        let request = match Request::read(&mut stream) {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return refuse(&mut stream, 400, "expected an HTTP request");
            }
            Err(error) => return Err(error),
        };
        match request.answer(&self.token) {
            Answer::File(name) => match page::file(&name) {
                Some((kind, contents)) => {
                    browser::forget();
                    respond(&mut stream, 200, kind, contents)
                }
                None => refuse(&mut stream, 404, "the page has no such file"),
            },
            Answer::Refusal(status, why) => refuse(&mut stream, status, why),
            Answer::Socket(key) => self.serve(stream, &key),
        }
    }

    /// A page that looks on, until it is gone.
    fn serve(&self, mut stream: TcpStream, key: &str) -> io::Result<()> {
        let page = self.pages.clone();
        if Arc::strong_count(&page) > MOST_PAGES + 1 {
            return refuse(&mut stream, 503, "50 pages look on already: close one");
        }
        let accept = derive_accept_key(key.as_bytes());
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )?;
        stream.set_read_timeout(Some(SILENCE))?;
        let out = Arc::new(Mutex::new(stream.try_clone()?));
        let inbox = Arc::new(Inbox::default());
        let reading = Reading { stream: stream.try_clone()?, out: out.clone() };
        let heard = inbox.clone();
        thread::Builder::new().name("ndshare-hear".to_owned()).spawn(move || hear(reading, &heard))?;
        let served =
            client::serve(&self.sources, &inbox, &mut Writing(socket(Reading { stream: stream.try_clone()?, out })));
        // The thread that reads ends with the connection.
        let _ = stream.shutdown(Shutdown::Both);
        drop(page);
        served
    }
}

/// Takes what a page says until it says no more.
fn hear(stream: Reading, inbox: &Inbox) {
    let mut socket = socket(stream);
    // BOUND: the connection, which ends when nothing comes for `SILENCE`.
    loop {
        match socket.read() {
            // No page of ours says what is wrong, or so much at once.
            Ok(Message::Text(text)) => match wish::parse(&text).map(|(source, ask)| inbox.put(source, ask)) {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            },
            // Answers to pings, which `read` has dealt with.
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(_) | Err(_) => break,
        }
    }
    inbox.close();
}

/// One side of a connection that two threads write to: each write is of whole frames, and they do not mix.
#[derive(Debug)]
struct Reading {
    stream: TcpStream,
    out: Arc<Mutex<TcpStream>>,
}

impl Read for Reading {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        unbroken(|| self.stream.read(to))
    }
}

impl Write for Reading {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        locked(&self.out).write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn socket(stream: Reading) -> WebSocket<Reading> {
    let config = WebSocketConfig::default().max_message_size(Some(MOST_BYTES)).max_frame_size(Some(MOST_BYTES));
    // Few bytes come, and those that go are written at once.
    let config = config.read_buffer_size(4 << 10).write_buffer_size(0);
    WebSocket::from_raw_socket(stream, Role::Server, Some(config))
}

/// The side that sends.
struct Writing(WebSocket<Reading>);

impl Writing {
    fn send(&mut self, message: Message) -> io::Result<()> {
        self.0.send(message).map_err(|error| match error {
            tungstenite::Error::Io(error) => error,
            other => io::Error::other(other),
        })
    }
}

impl Out for Writing {
    fn text(&mut self, text: String) -> io::Result<()> {
        self.send(Message::text(text))
    }

    /// As one frame of the protocol, past tungstenite: it would copy a picture once more.
    fn binary(&mut self, bytes: &[u8]) -> io::Result<()> {
        let header = FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
        let mut head = Vec::new();
        header.format(bytes.len() as u64, &mut head).map_err(io::Error::other)?;
        write_both(&mut *locked(&self.0.get_ref().out), &head, bytes)
    }

    fn ping(&mut self) -> io::Result<()> {
        self.send(Message::Ping(Vec::new().into()))
    }
}

/// Writes two parts one behind the other, in one piece where the system takes it.
fn write_both(to: &mut impl Write, head: &[u8], bytes: &[u8]) -> io::Result<()> {
    let written = match to.write_vectored(&[IoSlice::new(head), IoSlice::new(bytes)]) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        other => other?,
    };
    to.write_all(&head[written.min(head.len())..])?;
    to.write_all(&bytes[written.saturating_sub(head.len())..])
}

/// What each answer says: that the page asks this server alone, and is in no other page.
const HEADERS: &str = "Connection: close\r\n\
    Cache-Control: no-store\r\n\
    Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Referrer-Policy: no-referrer\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n";

fn respond(stream: &mut TcpStream, status: u16, kind: &str, contents: &[u8]) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        _ => "Service Unavailable",
    };
    let len = contents.len();
    let head = format!("HTTP/1.1 {status} {reason}\r\n{HEADERS}Content-Type: {kind}\r\nContent-Length: {len}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), contents].concat())?;
    // The peer reads to the end before the connection is gone.
    stream.shutdown(Shutdown::Write)?;
    let _ = stream.read(&mut [0; 64]);
    Ok(())
}

fn refuse(stream: &mut TcpStream, status: u16, why: &str) -> io::Result<()> {
    respond(stream, status, "text/plain; charset=utf-8", format!("{why}\n").as_bytes())
}
