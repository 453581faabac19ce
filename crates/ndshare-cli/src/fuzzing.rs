//! What fuzzers call: command lines, and what a browser says to the viewer. `fuzz/` has a target for each.

use crate::args::Cli;
use crate::view;
use clap::{Command, CommandFactory, FromArgMatches};
use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

thread_local! {
    static COMMAND: RefCell<Command> = RefCell::new(Cli::command());
}

/// Arguments with a zero between them, behind the name of the command: whether they are a command line.
pub fn command(data: &[u8]) -> bool {
    let arguments = data.split(|&byte| byte == 0).map(|argument| OsString::from_vec(argument.to_vec()));
    let arguments = [OsString::from("ndshare")].into_iter().chain(arguments);
    // As `Cli::try_parse_from` does, which makes all of the command anew each time.
    let matches = COMMAND.with_borrow_mut(|command| command.try_get_matches_from_mut(arguments));
    match matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)).and_then(Cli::checked) {
        Ok(cli) => !format!("{cli:?}").is_empty(),
        Err(usage) => {
            // What is asked for ends well, what is wrong with 2.
            assert_eq!(usage.exit_code(), if usage.use_stderr() { 2 } else { 0 });
            assert!(!usage.render().to_string().is_empty());
            false
        }
    }
}

/// What comes over a connection of the viewer: the head of a request, or a message of its page.
pub fn browser(data: &[u8]) -> bool {
    view::hear(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    /// The bytes with which fuzzers begin, and each without its end or with another byte: some are whole, and some are not.
    #[test]
    fn every_seed_goes_through_its_target_and_some_are_whole() {
        for (name, target) in [("command", command as fn(&[u8]) -> bool), ("browser", browser)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
            let mut outcomes = [0, 0];
            for seed in fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()) {
                outcomes[usize::from(target(&seed))] += 1;
                for at in (0..seed.len()).step_by(3) {
                    target(&seed[..at]);
                    target(&[&seed[..at], &[0xff], &seed[at + 1..]].concat());
                }
            }
            assert!(outcomes.iter().all(|&count| count > 0), "{name}: {outcomes:?}");
        }
    }
}
