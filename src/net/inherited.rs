//! Listening sockets that another process of this program has handed over.
//!
//! They are the same sockets, with the same clients in their queues: closing one of them would reset those clients, and
//! opening others beside them would give these sockets none of the new ones. So all of them are used, whatever the number
//! of threads is here and was there.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::sockopt;

use super::listen;

/// Sockets by the address at which they listen.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    sockets: HashMap<SocketAddr, Vec<OwnedFd>>,
    /// All addresses, of those that were taken as well.
    addresses: Vec<SocketAddr>,
}

impl Inherited {
    /// Takes a socket that is said to listen at this address.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) fn add(&mut self, addr: SocketAddr, socket: OwnedFd) -> io::Result<()> {
        check(&socket, addr)?;
        if !self.addresses.contains(&addr) {
            self.addresses.push(addr);
        }
        self.sockets.entry(addr).or_default().push(socket);
        Ok(())
    }

    /// The sockets at this address, one for each of so many threads at least: what is missing is bound beside them. `None`
    /// where none were handed over.
    ///
    /// # Errors
    ///
    /// The system refuses another one.
    pub(crate) fn take(&mut self, addr: SocketAddr, threads: usize) -> Option<io::Result<Vec<OwnedFd>>> {
        let mut sockets = self.sockets.remove(&addr)?;
        let missing = (sockets.len()..threads).map(|_| listen::shared(addr));
        Some(missing.collect::<io::Result<Vec<_>>>().map(|more| {
            sockets.extend(more);
            sockets
        }))
    }

    /// Where sockets were handed over: nobody else listens there.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where sockets are left that nobody has taken.
    pub(crate) fn left(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.keys().copied()
    }
}

/// Fails unless `socket` listens at `addr`.
pub(crate) fn check(socket: &OwnedFd, addr: SocketAddr) -> io::Result<()> {
    let found = SocketAddr::try_from(rustix::net::getsockname(socket)?).map_err(|_other| wrong(addr))?;
    if found == addr && sockopt::socket_acceptconn(socket)? { Ok(()) } else { Err(wrong(addr)) }
}

fn wrong(addr: SocketAddr) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("a socket that was handed over does not listen at {addr}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_are_taken_once_and_what_is_missing_is_bound_beside_them() {
        let mut ports = (10_000 + std::process::id() as u16 % 10_000)..30_000;
        let (addr, sockets) = ports
            .find_map(|port| {
                let addr = SocketAddr::from(([127, 0, 0, 1], port));
                Some((addr, listen::bind(addr, 2, &[]).ok()?))
            })
            .unwrap();
        let mut inherited = Inherited::default();
        sockets.into_iter().for_each(|socket| inherited.add(addr, socket).unwrap());
        assert_eq!(inherited.left().collect::<Vec<_>>(), [addr]);
        let taken = inherited.take(addr, 3).unwrap().unwrap();
        assert_eq!(taken.len(), 3);
        assert!(taken.iter().all(|socket| check(socket, addr).is_ok()));
        assert!(inherited.take(addr, 3).is_none() && inherited.left().next().is_none());
        assert_eq!(inherited.addresses(), [addr]);
    }

    #[test]
    fn more_sockets_than_threads_are_all_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut inherited = Inherited::default();
        for _ in 0..3 {
            inherited.add(addr, listener.try_clone().unwrap().into()).unwrap();
        }
        assert_eq!(inherited.take(addr, 1).unwrap().unwrap().len(), 3);
    }

    #[test]
    fn what_listens_elsewhere_or_not_at_all_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(addr).unwrap();
        let own = client.local_addr().unwrap();
        let mut inherited = Inherited::default();
        assert!(inherited.add(own, client.into()).is_err(), "it does not listen");
        let error = inherited.add("127.0.0.1:1".parse().unwrap(), listener.into()).unwrap_err();
        assert_eq!(error.to_string(), "a socket that was handed over does not listen at 127.0.0.1:1");
    }
}
