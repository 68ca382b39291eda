//! How an operation is run: who watches it, who may stop it, how wide it may go.
//!
//! The only place in the crate that spreads work over threads.

use crate::{Error, ErrorKind, Result, limits};
use rayon::{ThreadPool, ThreadPoolBuilder, slice::ParallelSliceMut};
use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
};

/// Hears about progress. Every method does nothing unless overridden.
pub trait Watch: Send + Sync {
    /// A phase starts; `total` bytes are expected.
    fn phase(&self, name: &str, total: u64) {
        let _ = (name, total);
    }
    /// `bytes` more are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }
}

impl Watch for () {}

/// Passed by reference to every operation.
///
/// ```
/// use vdisk_core::Job;
/// let job = Job::default(); // nobody watches, nobody stops, all cores
/// assert!(job.threads.get() >= 1);
/// ```
pub struct Job<'a> {
    /// Who watches.
    pub watch: &'a dyn Watch,
    /// Set from anywhere (a signal handler, another thread) to stop.
    pub stop: &'a AtomicBool,
    /// Worker threads an operation may use; [`limits::THREADS`] at most.
    pub threads: NonZeroUsize,
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl Default for Job<'static> {
    fn default() -> Self {
        Self {
            watch: &(),
            stop: &NEVER,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        }
    }
}

impl Job<'_> {
    /// Reports progress; the one point where operations notice that they should stop.
    pub fn advance(&self, bytes: u64) -> Result<()> {
        self.watch.advance(bytes);
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(
                ErrorKind::Cancelled,
                "job",
                "stopped on request",
            ));
        }
        Ok(())
    }

    /// Runs `work` on items in parallel and `done` on the results in the items' order.
    ///
    /// `items` and `done` run on the calling thread. At most `2 * threads + 1` items are under way,
    /// so memory is bounded by the size of an item. The first error, in order, ends the run.
    ///
    /// ```
    /// # use vdisk_core::Job;
    /// let mut squares = vec![];
    /// Job::default().in_order(
    ///     (0..5u64).map(Ok),
    ///     |n| Ok(n * n),
    ///     |square| { squares.push(square); Ok(()) },
    /// )?;
    /// assert_eq!(squares, [0, 1, 4, 9, 16]);
    /// # Ok::<(), vdisk_core::Error>(())
    /// ```
    pub fn in_order<T: Send, U: Send>(
        &self,
        items: impl Iterator<Item = Result<T>>,
        work: impl Fn(T) -> Result<U> + Sync,
        mut done: impl FnMut(U) -> Result<()>,
    ) -> Result<()> {
        let pool = self.pool()?;
        let window = pool.current_num_threads() * 2;
        let work = &work;
        let mut waiting = VecDeque::with_capacity(window + 1);
        pool.in_place_scope(|scope| {
            let mut finish = |result: Option<std::sync::mpsc::Receiver<Result<U>>>| match result
                .map(|r| r.recv())
            {
                Some(Ok(result)) => done(result?),
                // No answer: that worker panicked, and the scope will too.
                Some(Err(_)) | None => Ok(()),
            };
            for item in items {
                let (reply, result) = sync_channel(1);
                match item {
                    Ok(item) => scope.spawn(move |_| {
                        let _ = reply.send(work(item)); // nobody listens after an earlier error
                    }),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
                waiting.push_back(result);
                if waiting.len() > window {
                    finish(waiting.pop_front())?;
                }
            }
            while !waiting.is_empty() {
                finish(waiting.pop_front())?;
            }
            Ok(())
        })
    }

    /// The same with fewer workers, at least one, so that buffers of `each` bytes for every worker take
    /// no more than `memory` bytes.
    pub(crate) fn within(&self, memory: u64, each: u64) -> Job<'_> {
        let most = memory.checked_div(each).unwrap_or(u64::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
        Job {
            watch: self.watch,
            stop: self.stop,
            threads: self.threads.min(most),
        }
    }

    /// Sorts `items` where they are; those with equal keys in any order.
    pub(crate) fn sort<T: Send, K: Ord>(
        &self,
        items: &mut [T],
        key: impl Fn(&T) -> K + Sync,
    ) -> Result<()> {
        // Fewer are sorted before threads have started.
        const MANY: usize = 1 << 15;
        if self.threads.get() == 1 || items.len() < MANY {
            items.sort_unstable_by_key(key);
        } else {
            self.pool()?
                .install(|| items.par_sort_unstable_by_key(&key));
        }
        Ok(())
    }

    fn pool(&self) -> Result<ThreadPool> {
        let threads = self.threads.get().min(limits::THREADS);
        ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| Error::new(ErrorKind::Io, "threads", e.to_string()))
    }
}
