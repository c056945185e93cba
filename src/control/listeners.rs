//! The listeners of the groups: which are open, which are to be, and which wait for their address.
//!
//! What a change wants to be open is bound before anything else is touched, and an address that cannot be bound refuses the
//! change. Where the group has `bind_retry`, it waits instead, alone: the address is tried again every second.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::ChangeError;
use crate::config::Config;
use crate::data::threads::{DataThreads, ListenerId};
use crate::events::{self, Event, GroupChange};
use crate::group::{Group, GroupId, GroupSettings, Groups};
use crate::net::{self, Inherited};

/// Between two tries of the addresses that groups wait for.
const TRY_PAUSE: Duration = Duration::from_secs(1);

/// Sockets of groups that are bound and not yet told to anybody, or why the group has to wait, by address.
pub(super) type Bound = HashMap<SocketAddr, io::Result<Vec<OwnedFd>>>;

/// The listeners of all groups.
#[derive(Debug)]
pub(super) struct Listeners {
    threads: Arc<DataThreads>,
    /// By address: no two groups have the same.
    open: HashMap<SocketAddr, (GroupId, ListenerId)>,
    /// The addresses that groups wait for.
    waiting: BTreeMap<SocketAddr, GroupId>,
    /// Their number, for all to see.
    waiting_count: Arc<AtomicUsize>,
    next_try: Instant,
}

impl Listeners {
    pub(super) fn new(threads: Arc<DataThreads>, waiting_count: Arc<AtomicUsize>) -> Self {
        let (open, waiting) = (HashMap::new(), BTreeMap::new());
        Self { threads, open, waiting, waiting_count, next_try: Instant::now() }
    }

    /// Binds what `config` wants to be open and is not, or takes the sockets that were handed over for that.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Listen`] for the first address that cannot be bound, unless its group waits for it.
    pub(super) fn bind(&self, config: &Config, inherited: &mut Inherited) -> Result<Bound, ChangeError> {
        let mut bound = Bound::new();
        let mut ours = self.addresses();
        ours.extend(inherited.addresses());
        for settings in config.groups.iter().map(|group| &group.settings).filter(|settings| settings.open) {
            let id = settings.id();
            for listen in settings.listen.iter() {
                let is_open = self.open.get(&listen).is_some_and(|(of, _)| *of == id);
                // It is tried in its own time.
                let waits = settings.bind_retry && self.waiting.get(&listen) == Some(&id);
                if is_open || waits {
                    continue;
                }
                let count = self.threads.count();
                let handed_over = inherited.take(listen, count);
                match handed_over.unwrap_or_else(|| net::bind(listen, count, &ours)) {
                    Err(source) if !(settings.bind_retry && passes(&source)) => {
                        return Err(ChangeError::Listen { listen, source: Arc::new(source) });
                    }
                    outcome => bound.insert(listen, outcome),
                };
            }
        }
        Ok(bound)
    }

    /// Opens what was bound for a group. Answers the listeners whose place was taken by that.
    pub(super) fn open(&mut self, settings: &GroupSettings, group: &Arc<Group>, bound: &mut Bound) -> Vec<ListenerId> {
        let mut replaced = Vec::new();
        for listen in settings.listen.iter() {
            match bound.remove(&listen) {
                None => {}
                Some(Ok(sockets)) => replaced.extend(self.listen(listen, sockets, settings, group)),
                Some(Err(error)) => {
                    if self.waiting.is_empty() {
                        self.next_try = Instant::now() + TRY_PAUSE;
                    }
                    self.waiting.insert(listen, settings.id());
                    tell(group, GroupChange::Waits { listen, error: error.to_string().into() });
                }
            }
        }
        replaced
    }

    fn listen(
        &mut self,
        listen: SocketAddr,
        sockets: Vec<OwnedFd>,
        settings: &GroupSettings,
        group: &Arc<Group>,
    ) -> Option<ListenerId> {
        let liveness = settings.client_tcp.liveness();
        sockets.iter().for_each(|socket| net::set_liveness(socket, &liveness));
        let listener = self.threads.open(sockets, group);
        self.waiting.remove(&listen);
        tell(group, GroupChange::Opened { listen, policy: settings.policy.to_string().into() });
        self.open.insert(listen, (group.id().clone(), listener)).map(|(_, old)| old)
    }

    /// Has the listeners of a group follow its settings: sets, for those whom they accept from now on, when a client is gone.
    pub(super) fn follow(&self, group: &Group, wanted: &GroupSettings) {
        let liveness = wanted.client_tcp.liveness();
        if group.snapshot().settings.client_tcp.liveness() != liveness {
            let own = self.open.values().filter(|(of, _)| of == group.id());
            own.for_each(|(_, listener)| self.threads.set_liveness(listener, liveness));
        }
    }

    /// The listeners that no group wants any more; nor does any wait for an address that it does not want.
    pub(super) fn take_unwanted(&mut self, before: &Groups, groups: &Groups) -> Vec<ListenerId> {
        let wants = |listen: &SocketAddr, id: &GroupId| {
            let snapshot = groups.get(id).map(|group| group.snapshot());
            snapshot.filter(|snapshot| {
                snapshot.settings.open && snapshot.settings.listen.iter().any(|wanted| wanted == *listen)
            })
        };
        self.waiting.retain(|listen, id| wants(listen, id).is_some_and(|snapshot| snapshot.settings.bind_retry));
        self.waiting_count.store(self.waiting.len(), Relaxed);
        let unwanted: Vec<_> = self.open.extract_if(|listen, (id, _)| wants(listen, id).is_none()).collect();
        let mut closed = BTreeSet::new();
        for (listen, (id, _)) in &unwanted {
            let Some(group) = groups.get(id).or_else(|| before.get(id)) else { continue };
            let change = match self.open.values().any(|(of, _)| of == id) {
                true => GroupChange::AddressClosed { listen: *listen },
                false if closed.insert(id) => GroupChange::Closed,
                false => continue,
            };
            tell(group, change);
        }
        unwanted.into_iter().map(|(_, (_, listener))| listener).collect()
    }

    /// Closes listeners; done when their addresses may be bound again.
    pub(super) async fn close(&self, listeners: Vec<ListenerId>) {
        for listener in listeners {
            self.threads.close(listener).await;
        }
    }

    /// Duplicates of all sockets, for another process.
    pub(super) async fn share(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let by_id: HashMap<ListenerId, SocketAddr> = self.open.iter().map(|(listen, (_, id))| (*id, *listen)).collect();
        let shared = self.threads.share().await?;
        Ok(shared.into_iter().filter_map(|(id, socket)| Some((*by_id.get(&id)?, socket))).collect())
    }

    /// Leaves all to another process, but for those that it does not want: clients that are queued there are accepted.
    pub(super) async fn leave_all(&mut self, unwanted: &[SocketAddr]) {
        self.waiting.clear();
        let all: Vec<_> = self.open.drain().map(|(listen, (_, listener))| (listen, listener)).collect();
        for (listen, listener) in all {
            match unwanted.contains(&listen) {
                true => self.threads.close(listener).await,
                false => self.threads.leave(listener).await,
            }
        }
    }

    /// Closes all, and nobody waits for an address any more.
    pub(super) async fn close_all(&mut self) {
        self.waiting.clear();
        let all = self.open.drain().map(|(_, (_, listener))| listener).collect();
        self.close(all).await;
    }

    /// Completes when [`Listeners::try_again`] is due; never while no group waits.
    pub(super) fn next_try(&self) -> impl Future<Output = ()> + use<> {
        let next = (!self.waiting.is_empty()).then_some(self.next_try);
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Tries the addresses that groups wait for.
    pub(super) async fn try_again(&mut self, groups: &Groups) {
        for (listen, id) in self.waiting.clone() {
            let Some(group) = groups.get(&id) else { continue };
            let (threads, ours) = (self.threads.count(), self.addresses());
            // It may have to read a long list of sockets.
            let bound = tokio::task::spawn_blocking(move || net::bind(listen, threads, &ours)).await;
            if let Ok(Ok(sockets)) = bound {
                let settings = group.snapshot().settings.clone();
                let replaced = self.listen(listen, sockets, &settings, group);
                self.close(replaced.into_iter().collect()).await;
            }
        }
        self.waiting_count.store(self.waiting.len(), Relaxed);
        self.next_try = Instant::now() + TRY_PAUSE;
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.open.keys().copied().collect()
    }
}

/// True when the address may be there, or free, some time later.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

fn tell(group: &Group, change: GroupChange) {
    events::publish(Event::Group { group: group.label().clone(), change });
}
