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
//! caller.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

/// Turns of the spin loop before a thread offers its processor to others, and
/// before an idle worker sleeps: about 10 and 100 us. On a machine that is busy
/// with other things, the thread that is waited for may need this very processor.
const SPINS_BEFORE_YIELD: usize = 2_000;
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
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            helpers: AtomicUsize::new(0),
            job: Mutex::default(),
            wake: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("filmloom-cpu-{index}"))
                    .spawn(move || shared.work())
                    .expect("the system can start a thread")
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// Threads that share a region's tasks.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(0)` to `task(tasks - 1)`, each once, in any order, and
    /// returns when all have returned.
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || tasks <= 1 {
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
            let pool = Pool::new(threads);
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
        let pool = Pool::new(2);
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
}
