//! Has the system find out that a peer is gone.

use std::os::fd::OwnedFd;

use rustix::io;
use rustix::net::sockopt;

use crate::base::clock;
use crate::group::{KEEPALIVE_PROBES, Liveness, probe_interval};

/// Sets on a connection, or for those that a listener will accept, when the peer is gone.
pub(crate) fn set_liveness(socket: &OwnedFd, liveness: &Liveness) {
    // A system that refuses finds out by itself, later.
    let _ = try_set(socket, liveness);
}

/// For how long the peer may leave unacknowledged what was sent, or take nothing; 0 for as long as the system has it.
pub(crate) fn set_user_timeout(socket: &OwnedFd, millis: u64) {
    // As above.
    let _ = sockopt::set_tcp_user_timeout(socket, u32::try_from(millis).unwrap_or(u32::MAX));
}

fn try_set(socket: &OwnedFd, liveness: &Liveness) -> io::Result<()> {
    if let Some(idle) = liveness.keepalive {
        sockopt::set_tcp_keepidle(socket, idle)?;
        sockopt::set_tcp_keepintvl(socket, probe_interval(idle))?;
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    }
    sockopt::set_socket_keepalive(socket, liveness.keepalive.is_some())?;
    set_user_timeout(socket, liveness.user_timeout.map_or(0, clock::as_ms));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::group::ClientTcp;

    #[test]
    fn what_is_set_on_a_listener_holds_for_those_whom_it_accepts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let listening = OwnedFd::from(listener.try_clone().unwrap());
        let accept = || {
            let _client = TcpStream::connect(addr).unwrap();
            listener.accept().unwrap().0
        };
        let tcp = ClientTcp { keepalive: Some(Duration::from_secs(90)), user_timeout: None };
        set_liveness(&listening, &tcp.liveness());
        let accepted = accept();
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), Duration::from_secs(90));
        assert_eq!(sockopt::tcp_keepintvl(&accepted).unwrap(), Duration::from_secs(15));
        assert_eq!(sockopt::tcp_keepcnt(&accepted).unwrap(), 6);
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 180_000);
        set_liveness(&listening, &ClientTcp { keepalive: None, user_timeout: None }.liveness());
        let accepted = accept();
        assert!(!sockopt::socket_keepalive(&accepted).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 0);
    }
}
