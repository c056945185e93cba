//! One question to a running proxy, and its answer.

use std::time::Duration;

use serde_json::Value;
use warp::http::StatusCode;

use super::address::AdminAddr;
use super::connection::{EVENT_STREAM, Exchange, Question, Subscription};
use super::error::AskError;
use crate::base::secret::Secret;
use crate::base::text::one_line;
use crate::config::Problem;

/// The longest answer that is read whole: more than any list of thousands of servers.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The longest text of a refusal that is repeated, in characters.
const MSG_CHARS_MAX: usize = 1_000;

/// A running proxy, as it is reached.
#[derive(Clone, Debug)]
pub struct AdminClient {
    addr: AdminAddr,
    token: Option<Secret>,
}

impl AdminClient {
    /// Nothing is asked yet.
    pub fn new(addr: AdminAddr, token: Option<Secret>) -> Self {
        Self { addr, token }
    }

    /// Where the proxy is.
    pub fn addr(&self) -> &AdminAddr {
        &self.addr
    }

    /// Asks for `target`, a path with its parameters. `last_event_id` is the event that was seen last. An answer that says
    /// nothing for `silence_max` counts as lost.
    ///
    /// # Errors
    ///
    /// Nobody answers, the request is refused, or whoever answers is no goproxy.
    pub async fn subscribe(
        &self,
        target: &str,
        last_event_id: Option<u64>,
        silence_max: Duration,
    ) -> Result<Subscription, AskError> {
        let exchange = self.ask(Question { method: "GET", target, last_event_id, wait: Duration::ZERO }).await?;
        if exchange.status() == StatusCode::OK && exchange.content_type().starts_with(EVENT_STREAM) {
            return Ok(Subscription::new(exchange, silence_max));
        }
        Err(self.refusal(exchange).await)
    }

    /// Asks for a change and returns the answer of the proxy, which has granted it.
    ///
    /// # Errors
    ///
    /// As those of [`AdminClient::subscribe`].
    pub async fn post(&self, target: &str) -> Result<Value, AskError> {
        self.post_and_wait(target, Duration::ZERO).await
    }

    /// The same for a change of which the proxy says only after `wait` what came of it.
    ///
    /// # Errors
    ///
    /// As those of [`AdminClient::subscribe`].
    pub async fn post_and_wait(&self, target: &str, wait: Duration) -> Result<Value, AskError> {
        self.answer(Question { method: "POST", target, last_event_id: None, wait }).await
    }

    /// Asks for what the proxy knows.
    ///
    /// # Errors
    ///
    /// As those of [`AdminClient::subscribe`].
    pub async fn get(&self, target: &str) -> Result<Value, AskError> {
        self.answer(Question { method: "GET", target, last_event_id: None, wait: Duration::ZERO }).await
    }

    async fn answer(&self, question: Question<'_>) -> Result<Value, AskError> {
        let exchange = self.ask(question).await?;
        if exchange.status() != StatusCode::OK {
            return Err(self.refusal(exchange).await);
        }
        let body = exchange.body(ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(|_| self.foreign("its answer is not JSON"))
    }

    async fn ask(&self, question: Question<'_>) -> Result<Exchange, AskError> {
        Exchange::begin(&self.addr, self.token.as_ref(), question).await
    }

    /// Why an answer is not what was asked for.
    async fn refusal(&self, exchange: Exchange) -> AskError {
        let (status, kind) = (exchange.status(), one_line(exchange.content_type(), MSG_CHARS_MAX));
        let body = match exchange.body(ANSWER_BYTES_MAX).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        match (json["code"].as_str(), json["msg"].as_str()) {
            (Some(code), Some(msg)) if json["ok"] == false => AskError::Refused {
                addr: self.addr.clone(),
                status: status.as_u16(),
                code: one_line(code, MSG_CHARS_MAX),
                msg: one_line(msg, MSG_CHARS_MAX),
                mistakes: mistakes(&json["errors"]),
            },
            _ => self.foreign(format!("it answers {} with \"{kind}\"", status.as_u16())),
        }
    }

    fn foreign(&self, what: impl Into<String>) -> AskError {
        AskError::Foreign { addr: self.addr.clone(), what: what.into() }
    }
}

/// The mistakes of the file that a refusal lists, as [`Problem`] writes them.
fn mistakes(errors: &Value) -> Vec<String> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
    let text = |value: &Value| one_line(value.as_str().unwrap_or_default(), MSG_CHARS_MAX);
    let problem = |error: &Value| Problem {
        line: number(&error["line"]),
        column: number(&error["column"]),
        path: text(&error["path"]),
        message: text(&error["message"]),
    };
    errors.as_array().into_iter().flatten().map(|error| problem(error).to_string()).collect()
}
