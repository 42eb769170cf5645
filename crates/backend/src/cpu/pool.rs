//! A fork-join pool for operations of tens of microseconds.
//!
//! A pass issues hundreds of short parallel regions, so waking a sleeping
//! thread for each (about 50 us under virtualisation) would cost more than it
//! gains. Workers therefore spin for a moment after a region and only then
//! sleep. Tasks are claimed from a shared counter; which thread runs a task
//! never changes a result, because tasks write disjoint outputs and no
//! reduction crosses a task.
//!
//! ```text
//! caller:  publish job, epoch += 1 | claim tasks ... | wait until helpers == 0
//! worker:  spin or sleep on epoch  | claim tasks ... | helpers -= 1
//! ```
//!
//! Invariant: `run` returns only after every worker has left the job, so the
//! borrowed closure outlives its use. A panic in a task is carried over to the
//! caller. A task does not run a region itself: it would wait for its own end.

use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use crate::seam::Error;

/// Turns of the spin loop before a thread offers its processor to others. On a
/// machine that is busy with other things, the thread that is waited for may
/// need this very processor. About 20 us: a turn took 9 ns on a Sapphire Rapids
/// server; processors whose pause is longer take up to five times that.
const SPINS_BEFORE_YIELD: usize = 2_000;
/// Turns before an idle worker sleeps. About 3 ms: a turn that yields is a
/// system call of 0.16 us (measured there, with nothing else to run). That
/// outlasts the gaps between regions of a pass, and is short beside a pause.
const SPINS_MAX: usize = 20_000;

/// A task function, borrowed for the length of one [`Pool::run`].
type Task = dyn Fn(usize) + Sync;

/// A fixed set of threads that run the tasks of one region at a time.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Serialises callers: a device runs one operation at a time.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    /// Number of regions published so far.
    epoch: AtomicUsize,
    /// Next task of the current region.
    next: AtomicUsize,
    /// Workers that have not left the current region.
    helpers: AtomicUsize,
    job: Mutex<Job>,
    wake: Condvar,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Job {
    task: Option<Borrowed>,
    tasks: usize,
    panic: Option<Panic>,
}

/// The caller's closure with its lifetime erased.
#[derive(Clone, Copy)]
struct Borrowed(*const Task);

// SAFETY: the closure is `Sync`, and `run` keeps it alive until all workers are done.
unsafe impl Send for Borrowed {}

impl std::fmt::Debug for Borrowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("task")
    }
}

struct Panic(Box<dyn std::any::Any + Send>);

impl std::fmt::Debug for Panic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("panic")
    }
}

impl Pool {
    /// Starts `threads - 1` workers; the caller of [`Pool::run`] is the last thread.
    ///
    /// # Errors
    ///
    /// [`Error::Threads`] if the system refuses one; those started are ended.
    pub(crate) fn new(threads: usize) -> Result<Self, Error> {
        Self::start(threads, |index, work| {
            std::thread::Builder::new().name(format!("filmloom-cpu-{index}")).spawn(work)
        })
    }

    fn start(
        threads: usize,
        spawn: impl Fn(usize, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            helpers: AtomicUsize::new(0),
            job: Mutex::default(),
            wake: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::new(), turn: Mutex::new(()) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = spawn(index, Box::new(move || shared.work()));
            pool.workers.push(worker.map_err(|_| Error::Threads { threads })?);
        }
        Ok(pool)
    }

    /// Threads that share a region's tasks.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(0)` to `task(tasks - 1)`, each once, in any order, and
    /// returns when all have returned.
    ///
    /// # Panics
    ///
    /// If a task panics, or if this is called by a task.
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        assert!(!IS_TASK.get(), "a task runs no region of its own");
        if self.workers.is_empty() || tasks <= 1 {
            let _mark = Mark::set();
            (0..tasks).for_each(task);
            return;
        }
        let _turn = lock(&self.turn);
        // SAFETY: only the lifetime changes; this function waits for all users below.
        let borrowed = Borrowed(unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Task>(task)
        });
        {
            let mut job = lock(&self.shared.job);
            *job = Job { task: Some(borrowed), tasks, panic: None };
            self.shared.next.store(0, Ordering::Relaxed);
            self.shared.helpers.store(self.workers.len(), Ordering::Relaxed);
            self.shared.epoch.fetch_add(1, Ordering::Release);
            self.shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| self.shared.claim(tasks, task)));
        let mut spins = 0;
        while self.shared.helpers.load(Ordering::Acquire) != 0 {
            spin(spins);
            spins += 1;
        }
        let panic = lock(&self.shared.job).panic.take();
        if let Err(payload) = own {
            resume_unwind(payload);
        }
        if let Some(Panic(payload)) = panic {
            resume_unwind(payload);
        }
    }
}

thread_local! {
    /// Whether this thread is inside a task.
    static IS_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Marks a thread as inside a task, until it is dropped.
struct Mark;

impl Mark {
    fn set() -> Self {
        IS_TASK.set(true);
        Self
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        IS_TASK.set(false);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let _job = lock(&self.shared.job);
            self.shared.closing.store(true, Ordering::Release);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics, so it cannot have panicked.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut seen = 0;
        while self.wait(seen) {
            seen += 1;
            let (task, tasks) = {
                let job = lock(&self.job);
                (job.task, job.tasks)
            };
            if let Some(Borrowed(task)) = task {
                // SAFETY: `run` waits for `helpers` to reach zero before the closure dies.
                let task = unsafe { &*task };
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.claim(tasks, task))) {
                    lock(&self.job).panic = Some(Panic(payload));
                }
            }
            self.helpers.fetch_sub(1, Ordering::Release);
        }
    }

    fn claim(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let _mark = Mark::set();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if tasks <= index {
                return;
            }
            task(index);
        }
    }

    /// Waits for a region after `seen`; false when the pool closes.
    fn wait(&self, seen: usize) -> bool {
        for spins in 0..SPINS_MAX {
            if self.epoch.load(Ordering::Acquire) != seen {
                return true;
            }
            if self.closing.load(Ordering::Acquire) {
                return false;
            }
            spin(spins);
        }
        let mut job = lock(&self.job);
        loop {
            if self.epoch.load(Ordering::Acquire) != seen {
                return true;
            }
            if self.closing.load(Ordering::Acquire) {
                return false;
            }
            job = self.wake.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn spin(spins: usize) {
    if spins < SPINS_BEFORE_YIELD {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_thread_count() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads).unwrap();
            for tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|index| {
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|index| assert_ne!(index, 3, "task three fails"));
        }));
        assert!(result.is_err());

        let ran = AtomicUsize::new(0);
        pool.run(8, &|_| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.load(Ordering::Relaxed), 8);
    }

    #[test]
    fn a_region_inside_a_task_is_refused_on_any_number_of_threads() {
        for threads in [1, 3] {
            let pool = Pool::new(threads).unwrap();
            for tasks in [1, 5] {
                let nested = || pool.run(tasks, &|_| pool.run(1, &|_| ()));
                assert!(catch_unwind(AssertUnwindSafe(nested)).is_err());
            }
            pool.run(2, &|_| ());
        }
    }

    #[test]
    fn a_refused_thread_is_an_error_and_ends_those_before_it() {
        let alive = Arc::new(());
        let error = Pool::start(5, |index, work| {
            let alive = Arc::clone(&alive);
            match index {
                3 => Err(io::ErrorKind::WouldBlock.into()),
                _ => std::thread::Builder::new().spawn(move || {
                    work();
                    drop(alive);
                }),
            }
        });

        assert_eq!(error.unwrap_err(), Error::Threads { threads: 5 });
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
