//! `ndshare`: parse the command line into a struct, then act on it.

#![forbid(unsafe_code)]

mod doctor;
mod ls;
mod proc;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What arenas live on this machine, and is it fit for them.
#[derive(Debug, Parser)]
#[command(name = "ndshare", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the arenas alive on this machine, with their processes and their memory.
    Ls,
    /// Check that this machine is fit for arenas, and say what to do where it is not.
    Doctor,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Ls => ls::run(),
        Command::Doctor => doctor::run(),
    }
}
