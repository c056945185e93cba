//! How HAProxy would say that a session has ended: the two letters of its termination state.
//!
//! The first says who ended it (`C` client, `S` server, small when that side was silent for too long; `P` the proxy, `R` a
//! lack of resources, `K` an operator, `D` the server has gone), the second in which phase: `C` while the server was
//! looked for, `D` while data went to and fro.

use crate::counters::EndReason;

/// What the code depends on besides the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// A server was reached.
    pub is_connected: bool,
    /// The server had finished before the client.
    pub server_ended_first: bool,
    /// The last server that was tried did not answer in time.
    pub has_timed_out: bool,
    /// The limit was that of the descriptors.
    pub is_out_of_descriptors: bool,
}

/// When a row of the table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Always.
    Always,
    /// A server was reached.
    Connected,
    /// The server had finished before the client.
    ServerEndedFirst,
    /// The last server that was tried did not answer in time.
    TimedOut,
    /// The limit was that of the descriptors.
    Descriptors,
}

impl Case {
    fn holds(self, circumstances: &Circumstances) -> bool {
        match self {
            Self::Always => true,
            Self::Connected => circumstances.is_connected,
            Self::ServerEndedFirst => circumstances.server_ended_first,
            Self::TimedOut => circumstances.has_timed_out,
            Self::Descriptors => circumstances.is_out_of_descriptors,
        }
    }
}

/// Every code. Of the rows of a reason the first one counts that holds.
pub const CODES: &[(EndReason, Case, &str)] = &[
    (EndReason::ClientClosed, Case::Always, "--"),
    (EndReason::ServerClosed, Case::Always, "--"),
    (EndReason::ClientReset, Case::Connected, "CD"),
    (EndReason::ClientReset, Case::Always, "CC"),
    (EndReason::ServerReset, Case::Always, "SD"),
    // Both were silent; HAProxy's time-out of the client mostly strikes first.
    (EndReason::IdleTimeout, Case::Always, "cD"),
    (EndReason::HalfCloseTimeout, Case::ServerEndedFirst, "cD"),
    (EndReason::HalfCloseTimeout, Case::Always, "sD"),
    (EndReason::MaxAge, Case::Always, "PD"),
    (EndReason::NoServer, Case::Always, "SC"),
    (EndReason::ConnectFailed, Case::TimedOut, "sC"),
    (EndReason::ConnectFailed, Case::Always, "SC"),
    (EndReason::ServerTlsFailed, Case::Always, "SC"),
    // `I`, an internal error, would mean a mistake in the proxy.
    (EndReason::PolicyFailed, Case::Always, "PC"),
    (EndReason::Limit, Case::Descriptors, "RC"),
    (EndReason::Limit, Case::Always, "PC"),
    (EndReason::Denied, Case::Always, "PC"),
    (EndReason::Loop, Case::Always, "PC"),
    (EndReason::BadHeader, Case::Always, "PC"),
    (EndReason::HeaderTimeout, Case::Always, "cC"),
    (EndReason::BadHello, Case::Always, "PC"),
    (EndReason::HelloTimeout, Case::Always, "cC"),
    (EndReason::NoRoute, Case::Always, "PC"),
    (EndReason::StarttlsRefused, Case::Always, "SC"),
    (EndReason::TlsFailed, Case::Always, "PC"),
    (EndReason::HandshakeTimeout, Case::Always, "cC"),
    (EndReason::Killed, Case::Connected, "KD"),
    (EndReason::Killed, Case::Always, "KC"),
    (EndReason::ServerDown, Case::Always, "DD"),
    (EndReason::Drained, Case::Connected, "KD"),
    (EndReason::Drained, Case::Always, "KC"),
    (EndReason::Shutdown, Case::Connected, "KD"),
    (EndReason::Shutdown, Case::Always, "KC"),
];

/// The code of a session that ended for this reason.
pub fn termination_code(end: EndReason, circumstances: &Circumstances) -> &'static str {
    let row = CODES.iter().find(|(reason, case, _)| *reason == end && case.holds(circumstances));
    // A test finds one for each reason, whatever the circumstances.
    row.map_or("--", |(_, _, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_code_whatever_the_circumstances_and_each_row_is_reached() {
        let mut reached = vec![false; CODES.len()];
        for end in EndReason::ALL {
            for bits in 0..16 {
                let circumstances = Circumstances {
                    is_connected: bits & 1 != 0,
                    server_ended_first: bits & 2 != 0,
                    has_timed_out: bits & 4 != 0,
                    is_out_of_descriptors: bits & 8 != 0,
                };
                let holds = |(reason, case, _): &(EndReason, Case, &str)| *reason == end && case.holds(&circumstances);
                let row =
                    CODES.iter().position(holds).unwrap_or_else(|| panic!("{end} has no code: {circumstances:?}"));
                reached[row] = true;
                assert_eq!(termination_code(end, &circumstances), CODES[row].2);
            }
            let rows: Vec<Case> = CODES.iter().filter(|row| row.0 == end).map(|row| row.1).collect();
            assert_eq!(rows.iter().position(|case| *case == Case::Always), Some(rows.len() - 1), "{end}: {rows:?}");
        }
        assert!(reached.iter().all(|is_reached| *is_reached), "{reached:?}");
    }

    /// The letters that HAProxy's manual lists for TCP.
    #[test]
    fn each_code_is_one_that_haproxy_may_write() {
        for (end, _, code) in CODES {
            let letters: Vec<char> = code.chars().collect();
            assert!(letters.len() == 2 && "CSPLRIDUKcs-".contains(letters[0]) && "CD-".contains(letters[1]), "{end}");
        }
    }
}
