//! An answer that goes on, also after the connection broke or the proxy was restarted.

use std::time::Duration;

use tokio::time::sleep;

use super::client::AdminClient;
use super::connection::Subscription;
use super::error::AskError;
use super::messages::Message;

/// The pauses before connecting again: from the first they double to the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// What a [`Follow`] tells.
#[derive(Debug)]
pub enum Told {
    /// The proxy answers, at first or again.
    Connected,
    /// It says something.
    Message(Message),
    /// It does not answer any more, or not yet; it is asked again in a while.
    Lost(AskError),
}

/// Reads an answer that goes on, and asks again when it is cut off.
///
/// It asks for what follows the last event that it has read, so nothing is read twice.
pub struct Follow {
    client: AdminClient,
    target: String,
    last_id: Option<u64>,
    silence_max: Duration,
    subscription: Option<Subscription>,
    has_connected: bool,
    /// How long to wait before the next attempt.
    pause: Duration,
}

impl Follow {
    /// Will ask for `target`; `last_id` is the event that was seen last. An answer that says nothing for `silence_max` is cut
    /// off.
    pub fn new(client: AdminClient, target: String, last_id: Option<u64>, silence_max: Duration) -> Self {
        let pause = Duration::ZERO;
        Self { client, target, last_id, silence_max, subscription: None, has_connected: false, pause }
    }

    /// Waits for the next thing to tell. Dropping the future while there is no connection gives up the attempt.
    ///
    /// # Errors
    ///
    /// The first attempt failed, or one in a way that does not pass.
    pub async fn next(&mut self) -> Result<Told, AskError> {
        let Some(subscription) = &mut self.subscription else { return self.connect().await };
        let lost = match subscription.next().await {
            Ok(Some(message)) => {
                self.last_id = message.id.or(self.last_id);
                self.pause = Duration::ZERO;
                return Ok(Told::Message(message));
            }
            Ok(None) => AskError::Ended { addr: self.client.addr().clone() },
            Err(error) => error,
        };
        self.subscription = None;
        self.failed(lost)
    }

    async fn connect(&mut self) -> Result<Told, AskError> {
        if !self.pause.is_zero() {
            // Not all at once, when many follow the same proxy.
            sleep(self.pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        }
        match self.client.subscribe(&self.target, self.last_id, self.silence_max).await {
            Ok(subscription) => {
                self.subscription = Some(subscription);
                self.has_connected = true;
                Ok(Told::Connected)
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: AskError) -> Result<Told, AskError> {
        if !self.has_connected || !error.is_passing() {
            return Err(error);
        }
        self.pause = (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        Ok(Told::Lost(error))
    }
}
