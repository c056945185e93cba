//! Why a connect failed: in plain words, and on which side the cause is.

use std::io;

use rustix::io::Errno;

/// True when the cause is on our side: no descriptor, memory or port is left. It says nothing of the server.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    const OURS: [Errno; 6] =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN];
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error().is_some_and(|code| OURS.iter().any(|errno| errno.raw_os_error() == code))
}

/// The cause without the system's number for it.
pub(crate) fn worded(error: &io::Error) -> String {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    match error.kind() {
        // The system's word, in whatever way the error came about.
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        kind @ (ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | TimedOut) => {
            kind.to_string()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_says_nothing_of_the_server() {
        for (errno, expected) in [(Errno::MFILE, true), (Errno::ADDRNOTAVAIL, true), (Errno::CONNREFUSED, false)] {
            assert_eq!(is_ours(&io::Error::from(errno)), expected, "{errno}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_plain_words() {
        assert_eq!(worded(&Errno::CONNREFUSED.into()), "connection refused");
        assert_eq!(worded(&Errno::TIMEDOUT.into()), "timed out");
        assert_eq!(worded(&Errno::PERM.into()), "Operation not permitted (os error 1)");
    }
}
