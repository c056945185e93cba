//! The socket the admin port listens on: TCP, or a unix socket of mode 0600.
//!
//! Binding is done before anything else starts, so a busy port stops the start. A unix socket left behind
//! by a process that died is replaced, one that answers is an error, and anything else at its path is never
//! touched. The file is removed when the listener is dropped, unless somebody has replaced it by then, or another process
//! has taken the socket over.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::AdminListen;

/// How many connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// Sockets that listen already, by what `Bound` is shown as: those that another process has handed over, or those that
/// are to be handed over.
pub type Sockets = HashMap<String, OwnedFd>;

/// A bound socket, not yet accepting.
pub(in crate::admin) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The path of a unix socket, removed with this value.
pub(in crate::admin) struct SocketFile {
    path: PathBuf,
    /// Device and inode: how the file is told from one that has taken its place.
    id: (u64, u64),
    is_kept: bool,
}

impl Bound {
    /// Binds and listens.
    ///
    /// # Errors
    ///
    /// Says where and why; a port or socket that somebody answers on is `AddrInUse`.
    pub(in crate::admin) fn new(listen: &AdminListen) -> io::Result<Self> {
        match listen {
            AdminListen::Tcp(addr) => tcp(*addr).map_err(|error| explain(addr, &error)),
            AdminListen::Unix(path) => unix(path).map_err(|error| explain(path.display(), &error)),
        }
    }

    /// The same on a socket that listens there already, if there is one. Its file stays until [`Bound::owned`].
    ///
    /// # Errors
    ///
    /// It does not, or as [`Bound::new`].
    pub(in crate::admin) fn on(listen: &AdminListen, sockets: &mut Sockets) -> io::Result<Self> {
        let Some(socket) = sockets.remove(&listen.to_string()) else { return Self::new(listen) };
        match listen {
            AdminListen::Tcp(addr) => {
                crate::net::check(&socket, *addr)?;
                Ok(Self::Tcp(socket.into()))
            }
            AdminListen::Unix(path) => {
                let made = std::fs::symlink_metadata(path).map_err(|error| explain(path.display(), &error))?;
                let file = SocketFile { path: path.clone(), id: (made.dev(), made.ino()), is_kept: true };
                Ok(Self::Unix(socket.into(), file))
            }
        }
    }

    /// A duplicate of the socket.
    pub(in crate::admin) fn share(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// The file is this process's to remove from now on.
    pub(in crate::admin) fn owned(mut self) -> Self {
        if let Self::Unix(_, file) = &mut self {
            file.is_kept = false;
        }
        self
    }

    /// The address; `None` for a unix socket.
    pub(in crate::admin) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(_) => self.local_addr().map_or(Ok(()), |addr| write!(f, "{addr}")),
            Self::Unix(_, file) => write!(f, "unix:{}", file.path.display()),
        }
    }
}

impl SocketFile {
    /// Leaves the file to whoever has the socket as well.
    pub(in crate::admin) fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_kept && std::fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.id) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn explain(place: impl std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
}

/// The standard library sets `SO_REUSEADDR`: a restart need not wait, yet two listeners exclude each other.
fn tcp(addr: SocketAddr) -> io::Result<Bound> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    // The standard library keeps 128 only: too few when thousands of servers come back at once.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(Bound::Tcp(listener))
}

fn unix(path: &Path) -> io::Result<Bound> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Before the bind: the file takes its mode from the socket, so it is never open to others.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let made = std::fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), id: (made.dev(), made.ino()), is_kept: false };
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(Bound::Unix(UnixListener::from(socket), file))
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else than a socket is there"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(path: &Path) -> AdminListen {
        AdminListen::Unix(path.to_owned())
    }

    #[test]
    fn a_busy_port_is_an_error_that_names_it() {
        let first = Bound::new(&AdminListen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let addr = first.local_addr().unwrap();
        let error = Bound::new(&AdminListen::Tcp(addr)).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("cannot listen on {addr}: ")), "{error}");
    }

    #[test]
    fn a_unix_socket_is_private_and_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let bound = Bound::new(&at(&path)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bound.to_string(), format!("unix:{}", path.display()));
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves the file behind");
        let live = Bound::new(&at(&path)).unwrap();
        let error = Bound::new(&at(&path)).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(live);
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert_eq!(Bound::new(&at(&path)).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn a_socket_that_took_our_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let ours = Bound::new(&at(&path)).unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        let theirs = Bound::new(&at(&path)).unwrap();
        drop(ours);
        assert!(path.exists());
        drop(theirs);
    }

    #[test]
    fn a_socket_that_was_handed_over_is_used_and_its_file_stays_until_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let before = Bound::new(&at(&path)).unwrap();
        let sockets = || Sockets::from([(before.to_string(), before.share().unwrap())]);
        drop(Bound::on(&at(&path), &mut sockets()).unwrap());
        assert!(path.exists());
        let Bound::Unix(listener, mut file) = before else { panic!("it is a unix socket") };
        let mut shared = Sockets::from([(format!("unix:{}", path.display()), listener.into())]);
        file.keep();
        drop(file);
        let after = Bound::on(&at(&path), &mut shared).unwrap().owned();
        assert!(UnixStream::connect(&path).is_ok() && shared.is_empty());
        drop(after);
        assert!(!path.exists());
        let tcp = Bound::new(&AdminListen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let mut wrong = Sockets::from([("127.0.0.1:1".to_owned(), tcp.share().unwrap())]);
        assert!(Bound::on(&AdminListen::Tcp("127.0.0.1:1".parse().unwrap()), &mut wrong).is_err());
    }

    #[test]
    fn a_path_that_is_too_long_is_an_error() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert!(Bound::new(&at(&path)).is_err());
    }
}
