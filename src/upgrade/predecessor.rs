//! The old process, as the new one sees it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::link::{AsyncLink, Link};
use super::message::{FromNew, FromOld, Kind, State};
use super::{PROTOCOL, VARIABLE};
use crate::base::vital;
use crate::group::GroupSessions;
use crate::net::Inherited;

/// The process that hands over to this one.
#[derive(Debug)]
pub struct Predecessor {
    /// `None` when this process has said that it is ready.
    link: Option<Link>,
    generation: u64,
    /// The sockets of groups.
    groups: Inherited,
    /// The sockets of the admin port, by where they listen.
    admin: HashMap<String, OwnedFd>,
}

/// The old process once this one serves: it drains, and tells what it still has.
#[derive(Debug)]
pub(crate) struct Former {
    link: AsyncLink,
}

/// What the old process tells while it drains.
#[derive(Debug)]
pub(crate) enum Told {
    /// This process is the service now.
    Main,
    /// The sessions that it still has, and how many processes drain.
    Sessions(Vec<GroupSessions>, u32),
    /// It has ended.
    Ended,
}

impl Predecessor {
    /// The process that has started this one to hand over to it; `None` when nobody has. Waits for its sockets.
    ///
    /// # Errors
    ///
    /// It has ended, or is no goproxy.
    pub fn find() -> io::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let stdin = io::stdin();
        if rustix::net::sockopt::socket_type(&stdin).ok() != Some(rustix::net::SocketType::SEQPACKET) {
            let msg =
                format!("{VARIABLE} is set, and stdin is not the socket of an upgrade; expected neither, or both");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, msg));
        }
        let link = Link::new(stdin.as_fd().try_clone_to_owned()?);
        // Nobody else shall have it: its end tells the old process that this one is over.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let (pid, version) = (std::process::id(), env!("CARGO_PKG_VERSION").to_owned());
        link.send(&FromNew::Hello { protocol: PROTOCOL, pid, version }).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => gone(),
            _ => error,
        })?;
        vital::kill_at("upgrade-hello");
        let (message, fds) = link.receive()?.ok_or_else(gone)?;
        let FromOld::Sockets { generation, sockets } = message else { return Err(unexpected()) };
        let (mut groups, mut admin) = (Inherited::default(), HashMap::new());
        if sockets.len() != fds.len() {
            return Err(io::Error::other(format!("{} sockets came instead of {}", fds.len(), sockets.len())));
        }
        for (listening, socket) in sockets.into_iter().zip(fds) {
            match listening.kind {
                Kind::Group => {
                    let addr: SocketAddr = listening.listen.parse().map_err(io::Error::other)?;
                    groups.add(addr, socket)?;
                }
                Kind::Admin => _ = admin.insert(listening.listen, socket),
                // Nobody waits there for this version.
                Kind::Unknown => {}
            }
        }
        Ok(Some(Self { link: Some(link), generation, groups, admin }))
    }

    /// The number of this process in the row of those that took over from each other.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.saturating_add(1)
    }

    /// The sockets of groups, and those of the admin port.
    pub(crate) fn sockets(&mut self) -> (&mut Inherited, &mut HashMap<String, OwnedFd>) {
        (&mut self.groups, &mut self.admin)
    }

    /// Tells it why this process cannot take over. It is told of the end anyway.
    pub fn failed(&self, error: &str) {
        if let Some(link) = &self.link {
            let _ = link.send(&FromNew::Failed { error: error.to_owned() });
        }
    }

    /// Tells it that everything is done that can fail, and waits for what it has observed. It accepts nobody any more then.
    ///
    /// # Errors
    ///
    /// It has ended: there may be nobody to end this process either.
    pub(crate) async fn ready(&mut self) -> io::Result<(Former, State)> {
        let unused = self.groups.left().map(|addr| addr.to_string()).collect();
        // Closed here: who is queued there is served by the other process.
        (self.groups, self.admin) = Default::default();
        let link = self.link.take().ok_or_else(unexpected)?;
        let former = Former { link: link.into_async()? };
        former.link.send(&FromNew::Ready { unused }, &[]).await?;
        vital::kill_at("upgrade-ready");
        loop {
            match former.link.receive().await?.ok_or_else(gone)? {
                FromOld::State(state) => return Ok((former, state)),
                FromOld::Unknown => {}
                _ => return Err(unexpected()),
            }
        }
    }
}

impl Former {
    /// Tells it that this process serves.
    pub(crate) async fn serving(&self) {
        // It may have ended since; this process serves all the same.
        let _ = self.link.send(&FromNew::Serving, &[]).await;
    }

    /// What it tells next.
    pub(crate) async fn told(&self) -> Told {
        loop {
            match self.link.receive().await {
                Ok(Some(FromOld::Main)) => return Told::Main,
                Ok(Some(FromOld::Sessions { groups, draining })) => return Told::Sessions(groups, draining),
                Ok(Some(_)) => {}
                // What cannot be understood any more is as good as nothing.
                Ok(None) | Err(_) => return Told::Ended,
            }
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the process that was to hand over has ended")
}

fn unexpected() -> io::Error {
    io::Error::other("the process that was to hand over says something whose turn it is not")
}
