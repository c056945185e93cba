//! Wakes those who wait for the last session of a server to end.
//!
//! Who waits says so before looking at the sessions, so that the end of the last one is not missed.

use tokio::sync::Notify;

/// Those who wait for a server without sessions.
#[derive(Debug, Default)]
pub(super) struct LastSession {
    ended: Notify,
}

impl LastSession {
    /// The last session has ended.
    pub(super) fn has_ended(&self) {
        self.ended.notify_waiters();
    }

    /// Waits until `is_over`, which has to be so when [`LastSession::has_ended`] is called.
    pub(super) async fn wait(&self, is_over: impl Fn() -> bool) {
        loop {
            let ended = self.ended.notified();
            if is_over() {
                return;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::server::Live;

    #[tokio::test]
    async fn all_who_wait_hear_of_the_end_of_the_last_session() {
        let live = Arc::new(Live::new(Vec::new()));
        live.all_ended().await;
        assert!(live.try_acquire(0) && live.try_acquire(0));
        assert!(tokio::time::timeout(Duration::from_millis(1), live.all_ended()).await.is_err());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let live = Arc::clone(&live);
                tokio::spawn(async move { live.all_ended().await })
            })
            .collect();
        tokio::task::yield_now().await;
        live.release();
        tokio::task::yield_now().await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        let data_thread = std::thread::spawn(move || live.release());
        for waiting in waiting {
            tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("they hear of it").unwrap();
        }
        data_thread.join().unwrap();
    }
}
