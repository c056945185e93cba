//! What the next process of an upgrade has to know of a server's checks.

use serde::{Deserialize, Serialize};

use super::{CheckCode, CheckResult, CheckState};

/// What checks have found. Times are spans.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::group) struct CheckCarried {
    /// What was done.
    kind: String,
    is_up: bool,
    is_undecided: bool,
    passes: u32,
    fails: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_down: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<LastCarried>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct LastCarried {
    ago_ms: u64,
    micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<CheckCode>,
}

impl CheckState {
    /// What the next process has to know.
    pub(in crate::group) fn carry(&self, now_ms: u64) -> CheckCarried {
        CheckCarried {
            kind: self.settings.kind.as_str().to_owned(),
            is_up: self.is_up,
            is_undecided: self.is_undecided,
            passes: self.passes,
            fails: self.fails,
            why_down: self.why_down.as_deref().map(str::to_owned),
            last: self.last.as_ref().map(|(result, at_ms)| LastCarried {
                ago_ms: now_ms.saturating_sub(*at_ms),
                micros: result.micros,
                error: result.outcome.as_ref().err().cloned(),
                code: result.code.clone(),
            }),
        }
    }

    /// Begins with what the process before has found, unless it has checked something else.
    pub(in crate::group) fn take_over(&mut self, carried: &CheckCarried, now_ms: u64) {
        if carried.kind != self.settings.kind.as_str() {
            return;
        }
        (self.is_up, self.is_undecided) = (carried.is_up, carried.is_undecided);
        (self.passes, self.fails) = (carried.passes, carried.fails);
        self.why_down = carried.why_down.as_deref().map(Into::into);
        self.last = carried.last.as_ref().map(|last| {
            let outcome = last.error.clone().map_or(Ok(()), Err);
            let result = CheckResult { outcome, micros: last.micros, connect_us: None, code: last.code.clone() };
            (result, now_ms.saturating_sub(last.ago_ms))
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::group::check::tests::settings;

    fn failed() -> CheckResult {
        CheckResult {
            outcome: Err("status 500".into()),
            micros: 7,
            connect_us: None,
            code: Some(CheckCode::Number(500)),
        }
    }

    #[test]
    fn a_server_that_checks_have_found_down_is_down_and_counts_go_on() {
        let settings = Arc::new(settings());
        let mut state = CheckState::new(settings.clone(), false);
        for _ in 0..3 {
            state.take(failed(), 1_000);
        }
        let carried: CheckCarried = serde_json::from_str(&serde_json::to_string(&state.carry(2_000)).unwrap()).unwrap();
        let mut next = CheckState::new(settings, false);
        next.take_over(&carried, 50_000);
        assert_eq!(next.why_down(), state.why_down());
        assert!(next.why_down().is_some() && !next.is_unchecked() && next.fails() == 3);
        assert_eq!(next.view(50_000).unwrap(), state.view(2_000).unwrap());
    }
}
