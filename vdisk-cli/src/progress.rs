//! How far a run is: a bar on a terminal, JSON lines for programs, or nothing.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use vdisk_core::Watch;

/// When progress is shown, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// A bar if standard error is a terminal, otherwise nothing
    Auto,
    /// One JSON object a line on standard error: schema, phase, done, total (bytes)
    Json,
    /// Nothing
    None,
}

/// Time between two JSON lines.
const PERIOD: Duration = Duration::from_millis(100);

/// Watches jobs.
pub(crate) struct Progress {
    view: View,
    state: Mutex<Option<State>>,
}

enum View {
    Silent,
    Bar(ProgressBar),
    Json,
}

/// The phase under way.
struct State {
    phase: String,
    done: u64,
    total: u64,
    shown: Instant,
}

/// One line of `--progress json`.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    phase: &'a str,
    done: u64,
    total: u64,
}

impl Progress {
    pub(crate) fn new(mode: Mode) -> Self {
        let view = match mode {
            Mode::Json => View::Json,
            Mode::Auto if std::io::stderr().is_terminal() => View::Bar(bar()),
            Mode::Auto | Mode::None => View::Silent,
        };
        Self {
            view,
            state: Mutex::new(None),
        }
    }

    /// Ends the phase under way, so that other text can follow.
    pub(crate) fn finish(&self) {
        match &self.view {
            View::Silent => {}
            View::Bar(bar) => bar.finish_and_clear(),
            View::Json => {
                if let Some(state) = self.state().take() {
                    state.show();
                }
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Progress {
    fn phase(&self, name: &str, total: u64) {
        match &self.view {
            View::Silent => {}
            View::Bar(bar) => {
                bar.reset();
                bar.set_length(total);
                bar.set_message(name.to_owned());
            }
            View::Json => {
                self.finish();
                *self.state() = Some(State {
                    phase: name.to_owned(),
                    done: 0,
                    total,
                    shown: Instant::now(),
                });
            }
        }
    }

    fn advance(&self, bytes: u64) {
        match &self.view {
            View::Silent => {}
            View::Bar(bar) => bar.inc(bytes),
            View::Json => {
                if let Some(state) = self.state().as_mut() {
                    state.done += bytes;
                    if state.shown.elapsed() >= PERIOD && state.done < state.total {
                        state.show();
                        state.shown = Instant::now();
                    }
                }
            }
        }
    }
}

impl State {
    fn show(&self) {
        let line = Line {
            schema: 1,
            phase: &self.phase,
            done: self.done,
            total: self.total,
        };
        if let Ok(mut text) = serde_json::to_vec(&line) {
            text.push(b'\n');
            // Progress that cannot be shown must not end the work.
            let _ = std::io::stderr().write_all(&text);
        }
    }
}

fn bar() -> ProgressBar {
    let style = "{msg:8} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).map_or_else(
        |_| ProgressStyle::default_bar(),
        |s| s.progress_chars("=> "),
    );
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)).with_style(style)
}
