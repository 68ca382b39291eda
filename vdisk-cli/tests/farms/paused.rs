//! A run that is held in the middle, so that a test can do what others do meanwhile.

use crate::{builder::Farm, run::Ran};
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A run that stands still.
pub(crate) struct Paused(Child);

impl Paused {
    /// Starts the program, and holds it when it has read `from` bytes, before it has read `before`. On a busy
    /// machine that can come too late: then what it did is taken back with `undo`, and it starts anew.
    pub(crate) fn start(
        farm: &Farm,
        args: &str,
        (from, before): (u64, u64),
        undo: impl Fn(),
    ) -> Self {
        for _ in 0..20 {
            if let Some(paused) = Self::hold(farm, args, from) {
                if paused.read() < before {
                    return paused;
                }
                paused.signal("-KILL");
            }
            undo();
        }
        panic!("it always was past {before} bytes");
    }

    fn hold(farm: &Farm, args: &str, from: u64) -> Option<Self> {
        let child = farm
            .folder
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut paused = Self(child);
        let patience = Instant::now() + Duration::from_secs(60);
        while paused.read() < from {
            if paused.0.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < patience, "it reads nothing");
            std::thread::sleep(Duration::from_micros(200));
        }
        paused.send("-STOP");
        Some(paused)
    }

    /// Bytes that it has read so far.
    fn read(&self) -> u64 {
        let lines = fs::read_to_string(format!("/proc/{}/io", self.0.id())).unwrap_or_default();
        let read = lines.lines().find_map(|l| l.strip_prefix("rchar: "));
        read.map_or(0, |r| r.parse().unwrap())
    }

    fn send(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Lets it go on to its end.
    pub(crate) fn go_on(self) -> Ran {
        self.send("-CONT");
        let output = self.0.wait_with_output().unwrap();
        Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Sends `signal` and lets it go on to its end.
    pub(crate) fn signal(self, signal: &str) -> Ran {
        self.send(signal);
        self.go_on()
    }
}
