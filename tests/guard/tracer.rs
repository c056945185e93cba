//! Counts what one thread of another process does, by letting it take one step after the other.
//!
//! Nothing is sampled and nothing is timed, and the other threads of the process stand still meanwhile, so the same
//! work gives the same counts on any machine, however busy. The thread runs some ten thousand times more slowly; to
//! it the rest of the world is fast. Steps are taken in user space only: a system call is one step, whatever the
//! kernel does in it.

use std::collections::HashMap;
use std::fs;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use object::{Object, ObjectSymbol};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::support::eventually;

/// Where memory comes from: the functions of the allocator that the program calls.
const ALLOCATING: [&str; 8] =
    ["malloc", "calloc", "realloc", "mallocx", "rallocx", "posix_memalign", "aligned_alloc", "memalign"];

/// The two bytes of the instruction `syscall`, as they are read.
const SYSCALL: i64 = 0x050f;

/// What a thread has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) instructions: u64,
    pub(crate) system_calls: u64,
    pub(crate) allocations: u64,
}

impl Sub for Counts {
    type Output = Counts;

    fn sub(self, before: Counts) -> Counts {
        Counts {
            instructions: self.instructions - before.instructions,
            system_calls: self.system_calls - before.system_calls,
            allocations: self.allocations - before.allocations,
        }
    }
}

/// A thread under observation.
pub(crate) struct Traced {
    tid: Pid,
    shared: Arc<Shared>,
    tracer: JoinHandle<nix::Result<()>>,
}

#[derive(Default)]
struct Shared {
    instructions: AtomicU64,
    system_calls: AtomicU64,
    allocations: AtomicU64,
    is_over: AtomicBool,
}

impl Traced {
    /// Begins to count what the thread of this name does, and stops all others of its process where they sleep.
    pub(crate) fn attach(pid: u32, name: &str) -> Self {
        let (named, others): (Vec<Pid>, Vec<Pid>) = threads(pid).into_iter().partition(|tid| is_named(*tid, name));
        let &[tid] = &named[..] else { panic!("process {pid} has {} threads called {name}", named.len()) };
        let allocating = allocating(pid);
        let shared = Arc::new(Shared::default());
        let counted = Arc::clone(&shared);
        // Only the thread that attaches may give orders.
        #[allow(clippy::disallowed_methods, reason = "it is joined when it has detached")]
        let tracer = std::thread::spawn(move || {
            share_a_cpu(tid);
            for other in &others {
                // A thread that works might hold a lock, and would hold it for good.
                eventually("the other threads sleep", || is_asleep(*other));
                stop(*other)?;
            }
            stop(tid)?;
            counted.follow(tid, &allocating)?;
            others.into_iter().chain([tid]).try_for_each(|tid| ptrace::detach(tid, None))
        });
        Self { tid, shared, tracer }
    }

    /// Up to now. To be asked when the thread is asleep.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            instructions: self.shared.instructions.load(SeqCst),
            system_calls: self.shared.system_calls.load(SeqCst),
            allocations: self.shared.allocations.load(SeqCst),
        }
    }

    /// True while the thread waits in a system call; false while it works or stands before its next step.
    pub(crate) fn is_asleep(&self) -> bool {
        is_asleep(self.tid)
    }

    /// Lets all threads go their way. `wake` has to give the thread something to do.
    pub(crate) fn end(self, wake: impl FnOnce()) {
        self.shared.is_over.store(true, SeqCst);
        wake();
        self.tracer.join().expect("the tracer does not panic").expect("the process lives and may be traced");
    }
}

impl Shared {
    fn follow(&self, tid: Pid, allocating: &[u64]) -> nix::Result<()> {
        let mut is_call: HashMap<u64, bool> = HashMap::new();
        let (mut signal, mut last) = (None, 0);
        while !self.is_over.load(SeqCst) {
            let at = ptrace::getregs(tid)?.rip;
            // A repeated string instruction stands still until it is done, and is one.
            if at != last {
                self.instructions.fetch_add(1, SeqCst);
                let is_call = match is_call.get(&at) {
                    Some(known) => *known,
                    None => {
                        *is_call.entry(at).or_insert(ptrace::read(tid, at as ptrace::AddressType)? & 0xffff == SYSCALL)
                    }
                };
                if is_call {
                    self.system_calls.fetch_add(1, SeqCst);
                }
                if allocating.contains(&at) {
                    self.allocations.fetch_add(1, SeqCst);
                }
            }
            last = at;
            ptrace::step(tid, signal.take())?;
            match waitpid(tid, Some(WaitPidFlag::__WALL))? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                WaitStatus::Stopped(_, other) => signal = Some(other),
                _ => return Err(Errno::ESRCH),
            }
        }
        Ok(())
    }
}

/// Puts this thread and the one it traces on one CPU: each step is a change from one to the other, which takes ten
/// times as long from CPU to CPU.
fn share_a_cpu(tid: Pid) {
    let allowed = sched_getaffinity(None).expect("a thread may ask");
    let first = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).expect("it runs on one");
    let mut one = CpuSet::new();
    one.set(first);
    for thread in [None, rustix::process::Pid::from_raw(tid.as_raw())] {
        sched_setaffinity(thread, &one).expect("a thread may choose among its CPUs");
    }
}

fn stop(tid: Pid) -> nix::Result<()> {
    ptrace::attach(tid)?;
    waitpid(tid, Some(WaitPidFlag::__WALL)).map(drop)
}

fn threads(pid: u32) -> Vec<Pid> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw).collect()
}

fn is_named(tid: Pid, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{tid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
}

fn is_asleep(tid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{tid}/stat")).expect("the thread lives");
    stat.rsplit(") ").next().is_some_and(|fields| fields.starts_with('S'))
}

/// Where the functions begin that allocate, in the memory of this process.
fn allocating(pid: u32) -> Vec<u64> {
    let program = fs::canonicalize(format!("/proc/{pid}/exe")).expect("the process lives");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process lives");
    let first = maps.lines().find(|line| line.ends_with(&*program.to_string_lossy()));
    let base = first.and_then(|line| u64::from_str_radix(line.split('-').next()?, 16).ok());
    let base = base.expect("its program is in its memory");
    let content = fs::read(&program).expect("it was built");
    let file = object::File::parse(&*content).expect("it runs, so it can be read");
    let is_wanted = |symbol: &object::Symbol<'_, '_>| symbol.name().is_ok_and(|name| ALLOCATING.contains(&name));
    let found: Vec<u64> = file.symbols().filter(is_wanted).map(|symbol| base + symbol.address()).collect();
    assert_eq!(found.len(), ALLOCATING.len(), "the program has the allocator's functions; was it stripped?");
    found
}
