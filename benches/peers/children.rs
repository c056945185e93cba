//! Processes that never outlive the benchmark.
//!
//! Each child leads a process group of its own, and the whole group is killed when its guard is dropped: at the
//! end, on an error, in a panic. On a signal every group that lives is killed before the program exits, and none
//! can be started any more.

use std::{
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

use crate::measure;

struct Live {
    children: Vec<u32>,
    folders: Vec<PathBuf>,
}

/// Guards who must be killed and what must be removed; held while a child is started, so that none slips through.
static LIVE: Mutex<Live> = Mutex::new(Live { children: Vec::new(), folders: Vec::new() });

/// A child that is killed, with its children, when this is dropped.
pub(crate) struct Guarded(Child);

impl Guarded {
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Guarded> {
        let mut live = live();
        let child = command.process_group(0).spawn()?;
        live.children.push(child.id());
        Ok(Guarded(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// True when the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Asks the process to end, and waits until it has.
    pub(crate) fn interrupt(&mut self) -> io::Result<()> {
        if let Some(pid) = Pid::from_raw(self.pid() as i32) {
            kill_process(pid, Signal::INT)?;
        }
        self.0.wait().map(drop)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        end(self.pid());
        let _already_gone = self.0.wait();
        live().children.retain(|&pid| pid != self.pid());
    }
}

/// A folder that is removed on a signal too; otherwise by its own guard.
pub(crate) fn remove_on_signal(folder: PathBuf) {
    live().folders.push(folder);
}

/// Ends the program in order when somebody interrupts it.
pub(crate) fn end_on_signals() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut int), Ok(mut term), Ok(mut hup)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
            else {
                return;
            };
            tokio::select! { _ = int.recv() => {} _ = term.recv() => {} _ = hup.recv() => {} }
            let live = live();
            live.children.iter().copied().for_each(end);
            for folder in &live.folders {
                let _best_effort = std::fs::remove_dir_all(folder);
            }
            std::process::exit(130);
        });
    })?;
    Ok(())
}

fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks first, so that a parent can wait for its workers, and does not wait long before it kills.
fn end(pid: u32) {
    let Some(group) = Pid::from_raw(pid as i32) else { return };
    let _already_gone = kill_process(group, Signal::TERM);
    let deadline = Instant::now() + Duration::from_secs(2);
    while !measure::has_ended(pid) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
    let _already_gone = kill_process_group(group, Signal::KILL);
}
