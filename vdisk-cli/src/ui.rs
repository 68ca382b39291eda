//! The one way out: reports, warnings, errors and progress, as the global flags want them.
//!
//! Verbs never print. So `--json`, `--quiet` and closed pipes are handled here, once.

use crate::{
    exit::Exit,
    progress::{Mode, Progress},
};
use serde::Serialize;
use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Stdout, Write},
    num::NonZeroUsize,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use vdisk_core::{Error, ErrorKind, Job, Result, printable, storage::FileId, target::Stream};

/// Flags of every verb.
#[derive(clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Report as JSON on standard output (on standard error, if an image goes there), sizes in
    /// bytes; errors stay text
    #[arg(long, global = true)]
    json: bool,
    /// No progress, no warnings, no summaries of what was written; what was asked for is shown
    #[arg(short, long, global = true)]
    quiet: bool,
    /// How progress is shown on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "MODE",
        default_value = "auto",
        hide_possible_values = true
    )]
    #[arg(help = "Progress on standard error: auto (a bar on a terminal), json (lines) or none")]
    progress: Mode,
    /// Worker threads, 256 at most [default: one for each processor]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// What a verb found or did: one struct, shown as JSON or as text.
pub(crate) trait Report: Serialize {
    /// The text view.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// The terminal, or the programs that stand for it.
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    threads: NonZeroUsize,
    stop: Arc<AtomicBool>,
    progress: Progress,
    out: BufWriter<Stdout>,
    reader_gone: bool,
    /// Standard output carries an image, so reports go to standard error.
    image_on_stdout: bool,
}

impl Ui {
    pub(crate) fn new(args: &GlobalArgs) -> Self {
        let mode = if args.quiet {
            Mode::None
        } else {
            args.progress
        };
        Self {
            json: args.json,
            quiet: args.quiet,
            // Asked once: the system takes its time to answer.
            threads: (args.threads.and_then(|n| NonZeroUsize::new(n.into())))
                .unwrap_or_else(|| Job::default().threads),
            stop: Arc::default(),
            progress: Progress::new(mode),
            out: BufWriter::new(io::stdout()),
            reader_gone: false,
            image_on_stdout: false,
        }
    }

    /// Lets Ctrl-C and SIGTERM stop the work in good order; a second one ends the program at once.
    pub(crate) fn listen(&self) -> Result<()> {
        use signal_hook::{consts, flag};
        let register = || -> io::Result<()> {
            for signal in [consts::SIGINT, consts::SIGTERM, consts::SIGHUP] {
                // In this order, the flag is still unset when the first signal asks for it.
                flag::register_conditional_shutdown(
                    signal,
                    i32::from(Exit::Stopped as u8),
                    Arc::clone(&self.stop),
                )?;
                flag::register(signal, Arc::clone(&self.stop))?;
            }
            // Unhandled, a file size limit kills the program and leaves a partial file behind.
            flag::register(consts::SIGXFSZ, Arc::default())?;
            Ok(())
        };
        register().map_err(|e| Error::io("signals", e))
    }

    /// How operations are run.
    pub(crate) fn job(&self) -> Job<'_> {
        Job {
            watch: &self.progress,
            stop: &self.stop,
            threads: self.threads,
        }
    }

    /// Fails if a signal asked to stop.
    pub(crate) fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "vdisk", "stopped"));
        }
        Ok(())
    }

    /// True if reports are wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// True if whoever reads the report has read the warnings: both are on a terminal.
    pub(crate) fn warnings_seen(&self) -> bool {
        !self.quiet && io::stdout().is_terminal() && io::stderr().is_terminal()
    }

    /// Shows what the user asked for.
    pub(crate) fn print(&mut self, report: &impl Report) -> Result<()> {
        self.progress.finish();
        if self.json {
            // A report can be long: it is not held as text.
            return self.write(|out| {
                serde_json::to_writer_pretty(&mut *out, report)?;
                out.write_all(b"\n")
            });
        }
        self.write(|out| report.text(out))
    }

    /// Shows what was written: the text is left out if the user wants quiet.
    pub(crate) fn summary(&mut self, report: &impl Report) -> Result<()> {
        if self.quiet && !self.json {
            return Ok(());
        }
        self.print(report)
    }

    /// Writes to standard output; for verbs whose data is too long to hold.
    pub(crate) fn write(
        &mut self,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        if self.reader_gone {
            return Ok(());
        }
        let written = if self.image_on_stdout {
            text(&mut io::stderr())
        } else {
            text(&mut self.out)
        };
        self.shown(written)
    }

    /// A reader that closed the pipe has seen enough: what the verb found still decides how to exit.
    fn shown(&mut self, written: io::Result<()>) -> Result<()> {
        match written {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_gone = true;
                Ok(())
            }
            other => other.map_err(|e| Error::io("standard output", e)),
        }
    }

    /// Warns, in one sentence.
    pub(crate) fn warn(&self, sentence: &str) {
        if !self.quiet {
            self.progress.finish();
            complain("warning", sentence);
        }
    }

    /// Says what may help against what was warned of.
    pub(crate) fn advise(&self, sentence: &str) {
        if !self.quiet {
            self.progress.finish();
            complain("hint", sentence);
        }
    }

    /// Standard output, to write an image to. From now on reports go to standard error.
    /// It must be none of `inputs`.
    pub(crate) fn image_output(&mut self, inputs: &[FileId]) -> Result<Stream<File>> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            let detail = "is a terminal; an image can go to a file or a pipe";
            return Err(Error::new(ErrorKind::Usage, "standard output", detail));
        }
        self.image_on_stdout = true;
        let io = |e| Error::io("standard output", e);
        let out = File::from(stdout.as_fd().try_clone_to_owned().map_err(io)?);
        if inputs.contains(&FileId::of(&out.metadata().map_err(io)?)) {
            let detail = "is also an input, and inputs are never written to";
            return Err(Error::new(ErrorKind::Usage, "standard output", detail));
        }
        Ok(Stream::new(out).stopped_by(Arc::clone(&self.stop)))
    }

    /// Ends the output.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.progress.finish();
        let flushed = self.out.flush();
        self.shown(flushed)
    }

    /// True if nobody reads what is written to standard output.
    pub(crate) fn reader_gone(&self) -> bool {
        self.reader_gone
    }

    /// Shows why the run failed, and what may help. Returns how to exit.
    pub(crate) fn fail(&mut self, error: &Error) -> Exit {
        self.progress.finish();
        // A report that led to the error comes first. If it cannot be shown, the error still can.
        let _ = self.out.flush();
        if error.kind() == ErrorKind::Cancelled {
            if !self.quiet {
                complain("stopped", "on request");
            }
            return Exit::Stopped;
        }
        complain("error", &error.to_string());
        if let Some(hint) = hint(error) {
            complain("hint", hint);
        }
        error.kind().into()
    }
}

fn complain(what: &str, sentence: &str) {
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{what}: {}", printable(sentence));
}

/// What the user can do about `error`, where that is not plain from the sentence.
pub(crate) fn hint(error: &Error) -> Option<&'static str> {
    match (error.kind(), error.part()) {
        _ if error.to_string().contains("name the input format") => {
            Some("--input-format says what the file is; raw takes it as it is, whatever it holds")
        }
        (ErrorKind::Policy, "device") => {
            Some("--allow-devices lets the image stand for a device of this machine")
        }
        (ErrorKind::Policy, _) => {
            Some("--allow-path DIR or --parent FILE lets the image use files elsewhere")
        }
        (ErrorKind::Reference, "parent") if error.to_string().contains("was changed") => Some(
            "restore the parent as it was, or name an unchanged copy of it with --parent FILE; vdisk chain DIR looks for one",
        ),
        (ErrorKind::Reference, "parent") => Some(
            "--parent FILE says where the parent is; it must still be the one that was recorded; vdisk chain DIR looks for it",
        ),
        (ErrorKind::Corrupt, part) if part.starts_with("member ") => {
            Some("get the package anew; --no-verify reads it in spite of its manifest")
        }
        (ErrorKind::Reference, "extent") => Some("--allow-path DIR adds a folder to look in"),
        (ErrorKind::Usage, "output") if error.to_string().ends_with("exists already") => {
            Some("--force replaces it")
        }
        (ErrorKind::Unsupported, "image") if error.to_string().contains("cannot be resized") => {
            Some(
                "vdisk convert -o FILE writes an image of a kind that can, such as monolithicSparse; resize that",
            )
        }
        (ErrorKind::Unsupported, "image") if error.to_string().contains("written to in place") => {
            Some("--to-new OUT writes what it would become to a new image")
        }
        (ErrorKind::Io, "memory") if error.to_string().contains("for sorting") => {
            Some("--memory SIZE says how much is used")
        }
        (ErrorKind::Io, "open for writing") => Some(
            "a file that is changed in place must be writable; vdisk convert -o FILE writes a copy",
        ),
        (ErrorKind::Conflict, "children") => Some(
            "--to-new OUT leaves all images as they are; --orphan-siblings gives the other ones up",
        ),
        (ErrorKind::Conflict, "journal") => Some(
            "if no other vdisk is at it: vdisk commit, resize and compact finish it with --resume IMAGE, and take it back with --undo IMAGE",
        ),
        (ErrorKind::Usage, "size") if error.to_string().contains("must be resized first") => {
            Some("vdisk resize IMAGE --size SIZE makes it longer")
        }
        (ErrorKind::Conflict, "backup") => {
            Some("--fix-gpt moves it to the new end; --force cuts it off all the same")
        }
        (ErrorKind::Conflict, "partition table")
            if error.to_string().contains("other images rely") =>
        {
            Some("--force moves it all the same, and orphans them")
        }
        (ErrorKind::Conflict, "cut") => Some("--force cuts it off all the same"),
        (ErrorKind::Conflict, "conflict") => {
            Some("--prefer LAYER[@START-END] says whose blocks to take where you know it")
        }
        (ErrorKind::Conflict, "new parent") => Some(
            "without --reference-only, the image is written anew and keeps reading as before; --accept-parent-change takes the parent as it is",
        ),
        (ErrorKind::Conflict, "base") => Some(
            "--overlay lays the layers over each other, if their holes are meant to be transparent",
        ),
        _ => None,
    }
}
