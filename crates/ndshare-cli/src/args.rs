//! The command line as a struct. Its help is the reference of the command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::OsStringValueParser;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

const STATUS: &str = "\
Exit status: 0 when all is well; 1 when something failed, was not there or is broken; 2 for a wrong command line, and when
check could not look.
Data goes to standard output, and messages go to standard error.";

/// What arenas live on this machine, what is in them, and is it fit for them.
#[derive(Debug, Parser)]
#[command(name = "ndshare", bin_name = "ndshare", version, after_help = STATUS)]
pub(crate) struct Cli {
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// Refuses JSON of what has none.
    pub(crate) fn checked(self) -> Result<Self, clap::Error> {
        let (verb, instead) = match self.verb {
            Verb::Cat(_) => ("cat", "dump says as JSON which frames it wrote"),
            Verb::Completions { .. } => ("completions", "it prints a script"),
            Verb::Man { .. } => ("man", "it prints a page"),
            _ => return Ok(self),
        };
        if !self.json {
            return Ok(self);
        }
        let message = format!("expected no --json with {verb}, which has none: {instead}");
        Err(Self::command().error(ErrorKind::ArgumentConflict, message))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the arenas that live, and what is in them: sessions, names, blocks, who holds how much, what is undelivered.
    ///
    /// Nobody is disturbed: no arena is joined, and nothing is written to it. Processes of other users are not seen, unless
    /// you are root.
    #[command(after_help = "\
Examples:
  ndshare ls
  ndshare ls /mnt/ram/a.nds
  ndshare ls --json | python -m json.tool
  ndshare ls --json | jq '.arenas[] | {id, used_bytes}'")]
    Ls(Ls),
    /// Show what rings and caches do just now: frames/s, GB/s, who is behind, hit ratios, memory.
    ///
    /// It is drawn anew once in an interval. q or Ctrl-C leaves. As with `ls` nobody is disturbed.
    #[command(after_help = "\
Examples:
  ndshare top
  ndshare top --interval 0.2
  ndshare top --once
  ndshare top --json | jq '.arenas[].rings[] | {name, frames_per_s}'")]
    Top(Top),
    /// Check the invariants of arenas: tables, holds, records, and the links of rings and caches.
    ///
    /// Each finding says what it means. Nobody is disturbed. Exit status: 0 when all is whole; 1 when there are findings; 2 when
    /// an arena could not be looked into.
    #[command(after_help = "\
Examples:
  ndshare check
  ndshare check @lab
  ndshare check /mnt/ram/a.nds
  ndshare check e013bb9f62ff187b --json | jq '.[].findings'")]
    Check(Check),
    /// Check that this machine is fit for arenas, and say what to do where it is not.
    #[command(after_help = "\
Examples:
  ndshare doctor
  ndshare doctor --json | jq '.[] | select(.verdict != \"good\")'")]
    Doctor,
    /// Take published names away, or those whose objects are gone.
    ///
    /// Who has an object keeps it: only the name goes.
    #[command(after_help = "\
Examples:
  ndshare rm camera
  ndshare rm --dead")]
    Rm(Rm),
    /// Write the frames of a ring to standard output, as bytes.
    ///
    /// The items of each frame in C order, one frame behind the other; with --npy each as a .npy file.
    #[command(after_help = "\
Examples:
  ndshare cat camera --frames 1 --npy > frame.npy
  ndshare cat camera --latest | ffplay -f rawvideo -pixel_format gray16le -video_size 1600x1200 -
  ndshare cat camera --session lab --seconds 10 > frames.raw
  ndshare cat camera --notes | jq .note
  ndshare cat camera --arena /mnt/ram/a.nds --start oldest > frames.raw")]
    Cat(Cat),
    /// Write the frames of a ring to .npy files, one for each.
    ///
    /// They are called by the number of the frame, and appear whole. Standard output has the path of each.
    #[command(after_help = "\
Examples:
  ndshare dump camera --frames 100 frames
  ndshare dump camera --start oldest --seconds 0 .
  ndshare dump camera --arena /mnt/ram/a.nds --start oldest frames
  ndshare dump camera --json --frames 3 | jq .shape")]
    Dump(Dump),
    /// Show rings and arrays in the browser, live.
    ///
    /// It serves a page at 127.0.0.1, under an address that nobody can guess, and opens it. Nobody is slowed down: it is a reader
    /// of the newest frames. What is not there yet is shown as soon as somebody publishes it, and so is a successor of what is
    /// gone. It ends with Ctrl-C.
    #[command(after_help = "\
Examples:
  ndshare view camera
  ndshare view left right --no-browser
  ndshare view camera --session lab --port 8010
  ndshare view camera --arena /mnt/ram/a.nds
  ssh -L 8010:localhost:8010 camera-pc ndshare view camera --port 8010 --no-browser")]
    View(View),
    /// Show frames that go from one process to another: a camera that there is not, and a reader.
    ///
    /// Its ring is published as "demo", so that other terminals have something to see.
    #[command(after_help = "\
Examples:
  ndshare demo
  ndshare demo --rate 0 --seconds 5
  ndshare demo & ndshare top")]
    Demo(Demo),
    /// Measure this machine for a few seconds: copies, rings, gather, a transform.
    ///
    /// With --peers it measures for 15 minutes all that ndshare does, beside the other libraries that are installed. That needs
    /// Python and the sources, which it looks for in this folder and those above it.
    #[command(after_help = "\
Examples:
  ndshare bench
  ndshare bench --seconds 2 --json
  ndshare bench --peers --quick")]
    Bench(Bench),
    /// Bring rings and caches to other machines, or from them.
    ///
    /// With --listen it offers published rings and caches to other machines; with --connect it publishes rings of another
    /// machine here, under their names. It ends with Ctrl-C, and with --connect also when all its rings have ended. It needs
    /// Python, and `pip install "ndshare[net]"`.
    #[command(after_help = "\
Examples:
  ndshare bridge --listen tcp/0.0.0.0:7447 --ring cam0 --cache tiles
  ndshare bridge --connect tcp/camera-pc:7447 --ring cam0
  ndshare bridge --connect tls/camera-pc:7447 --ring cam0 --config zenoh.json5")]
    Bridge(Bridge),
    /// Write the frames of a ring to one file, each of them or a count of what was lost.
    ///
    /// The ending says the format: .npy; .raw, with a description beside it; .tif, OME-TIFF, which needs tifffile; .zarr, zarr 3,
    /// which needs zarr. A table beside it has number, time and meta of each frame. What is counted is whole, also when the disk is
    /// full or the command is killed. It ends with the stream, or by Ctrl-C. It needs the Python package.
    #[command(after_help = "\
Examples:
  ndshare record camera run.npy --seconds 10
  ndshare record camera run.zarr --frames 5000 --before 200
  ndshare record camera run.ome.tif --sidecar csv
  ndshare record camera run.npy --session lab
  ndshare record camera run.npy --arena /mnt/ram/a.nds
  ndshare record camera run.raw --wait 60 --json")]
    Record(Record),
    /// Put the frames of a recorded file into a ring, as they came once.
    ///
    /// The ring is published under a name meanwhile, or has a name in a session or an arena. Files are those that record writes. It
    /// ends with the file, or by Ctrl-C. It needs the Python package.
    #[command(after_help = "\
Examples:
  ndshare replay run.npy --ring camera
  ndshare replay run.zarr --ring camera --speed 0.5 --loop
  ndshare replay run.npy --ring camera --session lab
  ndshare replay run.raw --ring camera --fast --readers 2")]
    Replay(Replay),
    /// Print completions for a shell.
    #[command(after_help = "\
Examples:
  ndshare completions bash > ~/.local/share/bash-completion/completions/ndshare
  ndshare completions fish > ~/.config/fish/completions/ndshare.fish")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the man page, or that of a verb.
    #[command(after_help = "\
Examples:
  ndshare man | man -l -
  ndshare man dump | man -l -")]
    Man {
        /// The verb.
        verb: Option<String>,
    },
}

/// From where to where.
#[derive(Debug, Args)]
pub(crate) struct Bridge {
    /// Offer rings and caches at this endpoint.
    #[arg(long, value_name = "ENDPOINT", required_unless_present = "connect", conflicts_with = "connect")]
    pub(crate) listen: Option<String>,
    /// Bring rings from the machine at this endpoint.
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) connect: Option<String>,
    /// A ring, by its published name; may be given several times.
    #[arg(long, value_name = "NAME", required_unless_present = "cache")]
    pub(crate) ring: Vec<String>,
    /// A cache, by its published name, with --listen; may be given several times.
    #[arg(long, value_name = "NAME", conflicts_with = "connect")]
    pub(crate) cache: Vec<String>,
    /// A configuration file of Zenoh: TLS, user and password, links.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How many frames of each ring wait for readers here, with --connect.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) slots: u32,
    /// Compress what is sent, with --listen: lz4.
    #[arg(long, value_name = "HOW", value_parser = ["lz4"])]
    pub(crate) compress: Option<String>,
    /// Wait so many seconds for names and for the other machine; without it for ever.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
}

/// What is recorded, and where to.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// The ring: a published name, or with --session or --arena the name of a ring in a session or an arena.
    pub(crate) ring: String,
    /// The file, which is not there yet.
    #[arg(value_name = "FILE")]
    pub(crate) path: PathBuf,
    /// End after so many frames.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) frames: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Begin with so many frames from before, of those that the ring still has.
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) before: u64,
    /// What the table beside it is; without it parquet if pyarrow is installed, else csv.
    #[arg(long, value_name = "KIND", value_parser = ["parquet", "csv", "npy", "none"])]
    pub(crate) sidecar: Option<String>,
    /// Replace a recording that is there.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Wait so many seconds for the ring.
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "0")]
    pub(crate) wait: Duration,
    /// The session by name in which the ring is.
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// The path of the arena in which the ring is. It is opened, and gets a reader of every frame.
    #[arg(long, value_name = "PATH", conflicts_with = "session")]
    pub(crate) arena: Option<PathBuf>,
}

/// What is replayed, and how fast.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The recorded file.
    #[arg(value_name = "FILE")]
    pub(crate) path: PathBuf,
    /// The name under which the ring is published, or that it has with --session or --arena there.
    #[arg(long, value_name = "NAME")]
    pub(crate) ring: String,
    /// The session by name in which the ring is found or made; the session, too, if nobody has it.
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// The path of the arena in which the ring is found or made. It is there after the end, with its last frames.
    #[arg(long, value_name = "PATH", conflicts_with = "session")]
    pub(crate) arena: Option<PathBuf>,
    /// So many times as fast as it was.
    #[arg(long, value_name = "X", default_value = "1", conflicts_with = "fast")]
    pub(crate) speed: f64,
    /// As fast as readers take them.
    #[arg(long)]
    pub(crate) fast: bool,
    /// Begin anew at the end.
    #[arg(long = "loop")]
    pub(crate) again: bool,
    /// How many frames wait for readers.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) slots: u32,
    /// Begin when the ring has so many readers, 1 without it; 0 is at once.
    #[arg(long, value_name = "N")]
    pub(crate) readers: Option<u32>,
}

/// Which arenas.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Arenas by the paths of their files, whether or not anybody has them; without any, all that a process has.
    #[arg(value_name = "PATH", value_parser = OsStringValueParser::new().try_map(path))]
    pub(crate) paths: Vec<PathBuf>,
}

/// How often, and whether more than once.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Seconds from one look to the next.
    #[arg(long, value_name = "S", value_parser = interval, default_value = "1")]
    pub(crate) interval: Duration,
    /// Write one table after one interval, and end.
    #[arg(long)]
    pub(crate) once: bool,
}

/// Which arenas.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// An arena by its id or the path of its file, or a session by its name; without it all arenas that a process has.
    #[arg(value_name = "ARENA|SESSION|PATH")]
    pub(crate) target: Option<OsString>,
}

/// What is shown, and where.
#[derive(Debug, Args)]
pub(crate) struct View {
    /// Rings and arrays by their published names, or with --session or --arena rings by their names in a session or an arena;
    /// side by side.
    #[arg(value_name = "NAME", required_unless_present = "reference")]
    pub(crate) names: Vec<String>,
    /// The session by name in which the rings are.
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// The path of the arena in which the rings are. It is looked at from outside, whether or not anybody has it, up to 25
    /// times a second.
    #[arg(long, value_name = "PATH", conflicts_with = "session")]
    pub(crate) arena: Option<PathBuf>,
    /// The port of 127.0.0.1; 0 is any that is free.
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) port: u16,
    /// Only print the address.
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// A reference and a title, with a space between them.
    #[arg(long, value_name = "REFERENCE", hide = true)]
    pub(crate) reference: Vec<String>,
    /// End when standard input does.
    #[arg(long, hide = true)]
    pub(crate) until_end: bool,
}

/// How fast a camera, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End after so many seconds.
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "10")]
    pub(crate) seconds: Duration,
    /// Frames in a second; 0: as many as there can be.
    #[arg(long, value_name = "N", value_parser = rate, default_value = "60")]
    pub(crate) rate: f64,
    /// Be the camera of a ring.
    #[arg(long, hide = true)]
    pub(crate) camera: Option<String>,
}

/// For how long.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Seconds for all figures together.
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "10", conflicts_with = "peers")]
    pub(crate) seconds: Duration,
    /// Measure all, beside the other libraries that are installed.
    #[arg(long)]
    pub(crate) peers: bool,
    /// Take 90 seconds for a few of these.
    #[arg(long, requires = "peers")]
    pub(crate) quick: bool,
}

/// Which names go.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Published names.
    #[arg(required_unless_present = "dead")]
    pub(crate) names: Vec<String>,
    /// Also remove names and sessions that nobody has any more.
    #[arg(long)]
    pub(crate) dead: bool,
}

/// Which frames.
#[derive(Debug, Args)]
pub(crate) struct Frames {
    /// The ring: a published name, or with --session or --arena the name of a ring in a session or an arena.
    pub(crate) ring: String,
    /// The session by name in which the ring is.
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// The path of the arena in which the ring is. It is looked at from outside, whether or not anybody has it: no reader is
    /// made, so nobody waits for this one. It ends when nobody has the arena any more.
    #[arg(long, value_name = "PATH", conflicts_with = "session")]
    pub(crate) arena: Option<PathBuf>,
    /// End after so many frames.
    #[arg(long, value_name = "N")]
    pub(crate) frames: Option<u64>,
    /// End after so many seconds; with 0 only what is there counts.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Wait so many seconds for the ring.
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "0")]
    pub(crate) wait: Duration,
    /// Begin with the next frame, or with the oldest that is still there.
    #[arg(long, value_name = "WHERE", value_parser = ["next", "oldest"], default_value = "next")]
    pub(crate) start: String,
    /// Skip frames that come faster than they can be written. Without it a ring that waits for its readers waits for this
    /// one as well.
    #[arg(long)]
    pub(crate) latest: bool,
}

/// Frames for a pipe.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    #[command(flatten)]
    pub(crate) frames: Frames,
    /// Write each frame with a header, as `np.load` reads it.
    #[arg(long)]
    pub(crate) npy: bool,
    /// Write the notes in the place of the items: a line of JSON for each frame.
    #[arg(long, conflicts_with = "npy")]
    pub(crate) notes: bool,
}

/// Frames for files.
#[derive(Debug, Args)]
pub(crate) struct Dump {
    #[command(flatten)]
    pub(crate) frames: Frames,
    /// The directory for the files, which is made if it is not there.
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,
}

/// Whether a word can only mean a file: no session and no id has a slash.
pub(crate) fn is_path(text: &OsStr) -> bool {
    text.as_bytes().contains(&b'/') || fs::symlink_metadata(text).is_ok()
}

fn path(text: OsString) -> Result<PathBuf, String> {
    let wanted = || format!("expected the path of an arena's file, got {text:?}, and no such file is here");
    if is_path(&text) { Ok(text.into()) } else { Err(wanted()) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wanted = || format!("expected seconds such as 0 or 1.5, got {text:?}");
    let seconds: f64 = text.parse().map_err(|_| wanted())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wanted())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate == 0.0 || (0.001..1e9).contains(rate));
    rate.ok_or_else(|| format!("expected frames in a second such as 30, or 0, got {text:?}"))
}

/// Shorter looks would do nothing but look.
fn interval(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        short if short < Duration::from_millis(10) => Err(format!("expected at least 0.01 seconds, got {text:?}")),
        interval => Ok(interval.min(Duration::from_secs(86_400))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_are_numbers_that_can_be_waited() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for wrong in ["-1", "nan", "inf", "1e400", "soon", ""] {
            assert!(seconds(wrong).unwrap_err().contains("expected seconds"), "{wrong}");
        }
        assert!(rate("0") == Ok(0.0) && rate("29.97").is_ok() && rate("-1").is_err() && rate("nan").is_err());
        assert!(interval("0").is_err() && interval("1e15").is_ok());
    }
}
