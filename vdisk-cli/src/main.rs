//! The `vdisk` command: reads its arguments, runs one verb, and turns the outcome into an exit code.
//!
//! All work is done by `vdisk-core`; each verb is one file in `verbs/`.

mod args;
mod child;
mod exit;
mod farm;
mod interrupted;
mod output;
mod profile;
mod progress;
mod sarif;
mod size;
mod totals;
mod ui;
mod verbs;

use clap::Parser;
use exit::Exit;
use std::process::ExitCode;
use ui::{GlobalArgs, Ui};

/// Virtual disk images: compose, convert, clone, compare, check and inspect VMDK, VHD, VHDX and more
///
/// A disk inside a package is named PACKAGE::NAME or PACKAGE::NUMBER, such as vm.ova::disk2.vmdk or
/// vm.ova::2; the package alone, .ova or .ovf, will do if it holds one disk.
/// Sizes are bytes, or a number with K, M, G or T (powers of 1024: 1.5G is 1610612736).
/// Data goes to standard output, progress and warnings to standard error.
#[derive(Parser)]
#[command(name = "vdisk", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: verbs::Verb,
    #[command(flatten)]
    global: GlobalArgs,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done, or the same
  1    differs, or something was found that needs attention
  2    wrong usage, or an error
  3    refused: a file outside the allowed folders, layers in conflict, or an image in use; or a
       guarantee that is not met
  4    corrupt image
  130  stopped";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to tell somebody who closed the terminal.
            let _ = error.print();
            let exit = if error.use_stderr() {
                Exit::Failed
            } else {
                Exit::Done
            };
            return exit.into();
        }
    };
    let mut ui = Ui::new(&cli.global);
    let outcome = ui
        .listen()
        .and_then(|()| cli.verb.run(&mut ui))
        .and_then(|exit| ui.finish().map(|()| exit));
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => ui.fail(&error).into(),
    }
}
