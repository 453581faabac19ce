//! `ndshare completions` and `ndshare man`: what shells and man read, made from the command line itself.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Outcome;
use crate::args::Cli;

pub(crate) fn completions(shell: Shell, out: &mut dyn Write) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ndshare", &mut text);
    out.write_all(&text)?;
    Ok(true)
}

pub(crate) fn man(verb: Option<&str>, out: &mut dyn Write) -> Outcome {
    let mut command = Cli::command();
    command.build();
    let page = match verb {
        None => command,
        Some(verb) => command
            .find_subcommand(verb)
            .ok_or_else(|| format!("expected a verb, got {verb:?}: see ndshare help"))?
            .clone(),
    };
    clap_mangen::Man::new(page).render(&mut *out)?;
    Ok(true)
}
