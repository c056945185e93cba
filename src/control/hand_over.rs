//! Asking for an upgrade, and what it does to changes; see [`upgrading`](super::upgrading).

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::oneshot;

use super::upgrading::{Hold, Holding, UpgradeError, Upgraded};
use super::{Control, Job};

impl Control {
    /// Has another process of the program that is on disk now take over, and waits for that.
    ///
    /// # Errors
    ///
    /// It did not.
    pub async fn upgrade(&self) -> Result<Upgraded, UpgradeError> {
        let refused = |why: &str| UpgradeError::Refused(why.to_owned());
        if !self.shared.is_ready.load(Relaxed) {
            return Err(refused("the proxy is stopping"));
        }
        let (reply, answer) = oneshot::channel();
        let asked = self.upgrades.send(reply).await;
        asked.map_err(|_closed| refused("this process is no service of its own, and cannot be upgraded"))?;
        answer.await.unwrap_or_else(|_gone| Err(refused("the proxy is stopping")))
    }

    /// Has changes wait from now on; done when none is under way.
    ///
    /// # Errors
    ///
    /// No descriptor is left for the duplicates of the sockets.
    pub(crate) async fn hold(&self) -> io::Result<Hold> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (held, when_held) = oneshot::channel();
        let (release, when_released) = oneshot::channel();
        let job = Job::Hold(Holding { held, release: when_released });
        let sockets = self.send(job, when_held).await.map_err(|_stopping| gone())??;
        Ok(Hold { release, sockets })
    }

    /// Leaves listeners and file to another process. `unwanted` are addresses at which that one does not listen: clients that
    /// are queued there are served. Done when this process has no listener left.
    pub(crate) async fn leave(&self, hold: Hold, unwanted: Vec<SocketAddr>) {
        // A runner that is gone has no listener left.
        let _ = hold.release.send(unwanted);
        self.close_listeners().await;
    }
}
