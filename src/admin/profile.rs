//! Profiles for `go tool pprof`: what the heap holds, and where the CPU time goes.
//!
//! Addresses are written with the binary's mappings and resolved by the reader, from the binary:
//! resolving them here would read all debug information into a process that is already in trouble.
//! Everything runs on the blocking pool; one profile of a kind at a time.
//!
//! The CPU sampler walks frame pointers, beginning with the return address of the function that runs:
//! time is shown at the call in the caller's line. System libraries are not left out, although they are
//! built without frame pointers: that would drop every sample inside a system call, where a proxy spends
//! its time. It is safe, because the sampler reads no memory that it has not found to be readable.

use std::sync::mpsc;
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header::CONTENT_DISPOSITION;

use super::reply::{self, Answer, Refusal};

/// How long a CPU profile takes when nothing is said.
pub(super) const SECONDS_DEFAULT: u64 = 30;

/// The longest CPU profile.
pub(super) const SECONDS_MAX: u64 = 120;

/// Samples a second of CPU time; no divisor of a second, so that periodic work is not missed or doubled.
const FREQUENCY: i32 = 99;

/// Held while a CPU profile is taken: the kernel has one profiling timer per process.
static CPU: Mutex<()> = Mutex::new(());

/// The live heap by the stacks that allocated it, gzipped.
pub(super) async fn heap() -> Answer {
    let dumped = tokio::task::spawn_blocking(|| {
        let control = jemalloc_pprof::PROF_CTL.as_ref().ok_or_else(inactive)?;
        let mut control = control.try_lock().map_err(|_| busy())?;
        if !control.activated() {
            return Err(inactive());
        }
        control.dump_pprof().map_err(|error| failed(&error))
    });
    download("heap", dumped.await)
}

/// Where this process spends CPU time during the next `seconds`, gzipped.
///
/// Dropping the future ends the sampling. A caller that merely hangs up is not noticed before the end,
/// since it might have shut down only its own side.
pub(super) async fn cpu(seconds: u64) -> Answer {
    // Nothing is ever sent: the end of `asked` is the message.
    let (asked, gone) = mpsc::sync_channel::<()>(0);
    let sampled = tokio::task::spawn_blocking(move || {
        let _one_at_a_time = match CPU.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(busy()),
        };
        let sampler = pprof::ProfilerGuard::new(FREQUENCY).map_err(|error| failed(&error))?;
        // To be ready in a signal handler it resolves a stack of its own, and would keep all debug information.
        backtrace::clear_symbol_cache();
        // Ends early when whoever asked is gone; nobody reads the answer then.
        let _ = gone.recv_timeout(Duration::from_secs(seconds));
        let report = sampler.report().build_unresolved().map_err(|error| failed(&error))?;
        drop(sampler);
        Ok(encode(&report))
    });
    let sampled = sampled.await;
    drop(asked);
    download("profile", sampled)
}

/// Writes the samples as a gzipped `profile.proto`, weighed in nanoseconds of CPU time.
fn encode(report: &pprof::UnresolvedReport) -> Vec<u8> {
    let period_ns = 1e9 / f64::from(FREQUENCY);
    let mut profile = pprof_util::StackProfile::default();
    for mapping in mappings::MAPPINGS.iter().flatten() {
        profile.push_mapping(mapping.clone());
    }
    for (stack, count) in &report.data {
        // Outermost first, as in jemalloc's dumps; a zero would be no address of code.
        let addrs = stack.frames.iter().rev().map(|frame| frame.ip).filter(|ip| *ip != 0).collect();
        let weight = period_ns * *count as f64;
        profile.push_stack(pprof_util::WeightedStack { addrs, weight }, None);
    }
    profile.to_pprof(("cpu", "nanoseconds"), ("cpu", "nanoseconds"), None)
}

fn download(name: &str, profile: Result<Result<Vec<u8>, Refusal>, tokio::task::JoinError>) -> Answer {
    let profile = profile.map_err(|error| failed(&error))??;
    let mut response = reply::bytes("application/octet-stream", profile);
    let file = format!("attachment; filename=\"{name}.pb.gz\"");
    let file = HeaderValue::try_from(file).expect("the name is one of ours");
    response.headers_mut().insert(CONTENT_DISPOSITION, file);
    Ok(response)
}

fn busy() -> Refusal {
    let msg = "a profile of this kind is being taken; expected one at a time, try again when it is done";
    Refusal::new(StatusCode::CONFLICT, "profile_running", msg)
}

fn inactive() -> Refusal {
    let msg = "the allocator's heap profiling is off; start with MALLOC_CONF=prof:true,prof_active:true";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "profiling_inactive", msg)
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "profile_failed", format!("the profile could not be taken: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_cpu_profile_names_its_unit_and_the_binary_and_is_taken_one_at_a_time() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let busy_thread = std::thread::spawn(|| {
            while !STOP.load(Relaxed) {
                std::hint::spin_loop()
            }
        });
        let (first, second) = tokio::join!(cpu(1), cpu(1));
        STOP.store(true, Relaxed);
        busy_thread.join().unwrap();

        let refused = [&first, &second].into_iter().filter_map(|answer| answer.as_ref().err());
        assert_eq!(
            refused.map(|refusal| (refusal.status, refusal.code)).collect::<Vec<_>>(),
            [(StatusCode::CONFLICT, "profile_running")]
        );
        let body = first.or(second).unwrap().into_body().collect().await.unwrap().to_bytes();
        let mut proto = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut proto).unwrap();
        let binary = std::env::current_exe().unwrap();
        for text in ["cpu", "nanoseconds", binary.file_name().unwrap().to_str().unwrap()] {
            assert!(proto.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_heap_profile_without_a_profiling_allocator_is_refused_in_clear_words() {
        let refusal = heap().await.unwrap_err();
        assert_eq!((refusal.status, refusal.code), (StatusCode::SERVICE_UNAVAILABLE, "profiling_inactive"));
    }
}
