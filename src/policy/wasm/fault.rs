//! A call into a module that went wrong, in words for whoever wrote the module.

use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};

use super::host::{Limits, shortened};
use crate::counters::FaultKind;

/// A call that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// For people, on one line.
    pub(super) text: String,
}

/// What is said when the allocator of a module fails.
const REALLOC: &str = "cabi_realloc";

impl Fault {
    /// The module cannot be used as it is configured.
    pub(super) fn unfit(text: String) -> Self {
        Self { kind: FaultKind::Unfit, text }
    }

    /// What `error`, which came out of calling `function`, means.
    pub(super) fn of(function: &str, time_max: Duration, error: &wasmtime::Error) -> Self {
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            let text = format!("{function} took longer than {} ms and was stopped", time_max.as_millis());
            return Self { kind: FaultKind::Deadline, text };
        }
        // The cause is the news; the engine puts it last, behind the addresses of the frames.
        let cause = shortened(&error.root_cause().to_string());
        let text = match error.downcast_ref::<WasmBacktrace>().map(frames) {
            Some(frames) if !frames.is_empty() => format!("{function} failed: {cause}, in {frames}"),
            _ => format!("{function} failed: {}", shortened(&format!("{error:#}"))),
        };
        // Guests that were tried without lists and labels meet this only in the proxy.
        let of_realloc = [REALLOC, "realloc return"].iter().any(|name| text.contains(name));
        let hint = if of_realloc {
            "; the proxy calls cabi_realloc(0, 0, align, bytes) for what it passes in, also for 0 bytes: then any aligned \
             address will do"
        } else {
            ""
        };
        Self { kind: FaultKind::Trap, text: format!("{text}{hint}") }
    }

    /// Says too that the module was refused memory, if it was: that is what makes most guests fail.
    pub(super) fn with_memory(mut self, limits: &Limits) -> Self {
        if let Some(refused) = limits.memory_refused.filter(|_| self.kind == FaultKind::Trap) {
            let [wanted, max] = [refused, limits.memory_max].map(mib);
            self.text.push_str(&format!(
                "; it wanted {wanted} MiB of memory, expected at most {max} MiB: raise \"memory\" of this policy, or link \
                 with a smaller stack (-z stack-size=65536)"
            ));
        }
        self
    }
}

/// The functions the guest was in, innermost first, by the names it was built with. Those of Rust are written as in the
/// source, and without the functions by which a panic ends the program.
fn frames(backtrace: &WasmBacktrace) -> String {
    let names = backtrace.frames().iter().map(|frame| match frame.func_name() {
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    });
    relevant(names.collect())
}

/// The innermost of these functions that are not part of a panic.
fn relevant(names: Vec<String>) -> String {
    const FRAMES_MAX: usize = 4;
    let panicking = names.iter().take_while(|name| is_panicking(name)).count();
    // Where there is nothing else, that is what there is to show.
    let skipped = if panicking < names.len() { panicking } else { 0 };
    let shown = names.iter().skip(skipped).take(FRAMES_MAX).map(|name| shortened(name));
    shown.collect::<Vec<_>>().join(", called by ")
}

/// True for the functions of Rust's standard library that run when a program panics.
fn is_panicking(name: &str) -> bool {
    const PREFIXES: [&str; 12] = [
        "core::panicking::",
        "std::panicking::",
        "std::process::abort",
        "std::sys::",
        "std::rt::",
        "core::option::unwrap_failed",
        "core::option::expect_failed",
        "core::result::unwrap_failed",
        "core::slice::index::slice_",
        "core::str::slice_error_fail",
        "panic_abort::",
        "alloc::alloc::handle_alloc_error",
    ];
    const SUFFIXES: [&str; 5] =
        ["rust_begin_unwind", "rust_panic", "__rust_start_panic", "__rust_abort", "abort_internal"];
    let is_own_module = name.starts_with("<") && name.contains("std::panicking");
    is_own_module
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SUFFIXES.iter().any(|suffix| name == *suffix || name.ends_with(&format!("::{suffix}")))
}

/// Mebibytes, rounded up: a module that wants a byte more than it may have is not told the same number twice.
fn mib(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::relevant;

    #[test]
    fn a_panic_of_rust_is_shown_from_the_author_s_line_on() {
        let names = |mangled: &[&str]| {
            relevant(mangled.iter().map(|name| format!("{:#}", rustc_demangle::demangle(name))).collect())
        };
        let panicking = [
            "_ZN3std9panicking20rust_panic_with_hook17h0123456789abcdefE",
            "_ZN3std9panicking19begin_panic_handler28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
            "_ZN3std3sys9backtrace26__rust_end_short_backtrace17h0123456789abcdefE",
            "_RNvCsgSzV8R6zQjL_7___rustc17rust_begin_unwind",
            "_ZN4core9panicking9panic_fmt17h0123456789abcdefE",
            "_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE",
        ];
        let own = ["_ZN4mine6choose17h0123456789abcdefE", "pick", "a", "b", "c"];
        assert_eq!(names(&[&panicking[..], &own].concat()), "mine::choose, called by pick, called by a, called by b");
        assert!(names(&panicking).starts_with("std::panicking::"), "{}", names(&panicking));
        assert_eq!(names(&["strlen", "abort"]), "strlen, called by abort");
    }
}
