//! The engine: what every module is compiled with, and the clock that stops guests that take too long.
//!
//! There is one engine per process, made with the first module. Guests are bounded in time by epochs: a
//! thread advances the engine's epoch every millisecond, and a call traps when its number of ticks is over.
//! The thread sleeps while no guest is called, so that a proxy without traffic uses no processor time.
//! What a call may take is said by the caller, in [`super::instance`].

use std::num::NonZeroU64;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Config, Engine, EngineWeak, RegallocAlgorithm};

use crate::base::vital;

/// How often the epoch advances, and so how exactly a deadline is kept: a call is stopped up to two ticks after it.
/// Each tick takes a processor from a session for a moment; with one a millisecond that cost 2 % on a busy machine.
const TICK: Duration = Duration::from_millis(5);

/// By so much a tick may be late when that lets the kernel wake the ticker together with something else.
const SLACK: Duration = Duration::from_millis(1);

/// The ticker sleeps when nobody has called a guest for so many ticks. Longer than any call may take.
const IDLE_TICKS: u32 = 256;

/// The stack a guest may use; data threads have more than that left.
const STACK_BYTES: usize = 256 << 10;

/// Address space set aside for an instance's memory: the default limit, so that growing moves nothing.
const RESERVED_BYTES: u64 = 16 << 20;

/// What the time of guests is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Time {
    /// The clock on the wall: sessions wait.
    #[default]
    Wall,
    /// The time for which this process had a processor, where nobody waits: that a machine is busy with others is
    /// no fault of a guest's.
    Processor,
}

/// Compiles modules and runs their clock.
pub(super) struct Runtime {
    pub(super) engine: Engine,
    /// Its clock.
    pub(super) ticker: Arc<Ticker>,
}

/// In how many ticks a call that may take this long is stopped: never too early, as the tick under way may be
/// nearly over.
pub(super) fn ticks(time: Duration) -> u64 {
    time.as_millis().div_ceil(TICK.as_millis()) as u64 + 1
}

impl Runtime {
    /// Starts the engine and its ticker.
    ///
    /// # Errors
    ///
    /// The processor lacks what compiled code needs, or the system refuses a thread.
    pub(super) fn start(time: Time) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(STACK_BYTES)
            .memory_reservation(RESERVED_BYTES)
            .memory_guard_size(64 << 10)
            .memory_reservation_for_growth(0)
            // The other allocator takes time that grows faster than a function's size: seconds for one of 200 KB.
            .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
        let engine = Engine::new(&config)?;
        let ticker = Ticker::start(engine.weak(), time)?;
        Ok(Self { engine, ticker })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.ticker.is_over.store(true, SeqCst);
        self.ticker.wake();
    }
}

/// Advances the epoch while guests are called.
#[derive(Debug, Default)]
pub(super) struct Ticker {
    /// A guest was called since the ticker last looked.
    is_busy: AtomicBool,
    is_asleep: AtomicBool,
    is_over: AtomicBool,
    time: Time,
    thread: OnceLock<Thread>,
}

impl Ticker {
    fn start(engine: EngineWeak, time: Time) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self { time, ..Self::default() });
        let own = Arc::clone(&ticker);
        let thread = vital::spawn("policy-clock", None, move || own.run(&engine))?;
        let _ = ticker.thread.set(thread);
        Ok(ticker)
    }

    /// To be called before every call of a guest: from now on the epoch advances for as long as a call may take.
    pub(super) fn keep_running(&self) {
        if !self.is_busy.load(Relaxed) {
            self.is_busy.store(true, SeqCst);
            // With the order in `sleep`: either that sees us busy, or we see it asleep.
            if self.is_asleep.load(SeqCst) {
                self.wake();
            }
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self, engine: &EngineWeak) {
        // Refused: then ticks are exact, and cost a little more.
        let _ = set_current_timer_slack(NonZeroU64::new(SLACK.as_nanos() as u64));
        let mut counted = processor_time();
        while !self.is_over.load(SeqCst) {
            vital::panic_at("policy-clock");
            for _ in 0..IDLE_TICKS {
                #[allow(clippy::disallowed_methods, reason = "the clock itself: its tick is its work")]
                thread::sleep(TICK);
                if self.time == Time::Processor {
                    let spent = processor_time();
                    if spent.saturating_sub(counted) < TICK {
                        continue;
                    }
                    counted = spent;
                }
                // The engine is alive while an instance is, which may outlive the runtime.
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
            if !self.is_busy.swap(false, SeqCst) {
                self.sleep();
            }
        }
    }

    fn sleep(&self) {
        self.is_asleep.store(true, SeqCst);
        while !self.is_busy.load(SeqCst) && !self.is_over.load(SeqCst) {
            thread::park();
        }
        self.is_asleep.store(false, SeqCst);
    }
}

/// For how long all threads of this process together had a processor.
fn processor_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}
