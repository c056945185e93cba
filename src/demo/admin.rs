//! The admin port as `curl` would use it: one request, one connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::http::{Http, Reply};

/// How long each step of a request may take.
const TIME_MAX: Duration = Duration::from_secs(5);

/// The admin port.
#[derive(Clone, Copy)]
pub(super) struct Admin(pub(super) SocketAddr);

impl Admin {
    /// Asks for `path` and answers with the fields of the reply, which must be ok.
    pub(super) async fn call(self, path: &str) -> anyhow::Result<Value> {
        let answer = self.get(path).await?.to_json().with_context(|| format!("GET {path}"))?;
        if answer["ok"] != true {
            bail!("GET {path}: {}", answer["msg"]);
        }
        Ok(answer)
    }

    /// What the proxy has counted, from `/metrics`.
    pub(super) async fn counters(self) -> anyhow::Result<Counters> {
        Ok(Counters(self.get("/metrics").await?.text()))
    }

    async fn get(self, path: &str) -> anyhow::Result<Reply> {
        let target = path.to_owned();
        // Blocking, and over within its time limit, so it has a thread of its own.
        let asked = spawn_blocking(move || Http::connect(self.0, TIME_MAX)?.get(&target)).await;
        let reply = asked.map_err(io::Error::other).flatten().with_context(|| format!("GET {path}"))?;
        // A refusal says why in the same form.
        ensure!(reply.status == 200 || reply.body.starts_with(b"{"), "GET {path}: {}", reply.head);
        Ok(reply)
    }
}

/// The text of `/metrics`.
pub(super) struct Counters(String);

impl Counters {
    /// The sum of all series of `goproxy_NAME`; with a single group, that group's.
    pub(super) fn sum(&self, name: &str) -> u64 {
        let series = |line: &&str| {
            line.strip_prefix("goproxy_").and_then(|line| line.strip_prefix(name)).is_some_and(|l| l.starts_with('{'))
        };
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
        self.0.lines().filter(series).filter_map(value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_the_sum_of_its_series_and_of_no_other() {
        let text = "# TYPE goproxy_a counter\ngoproxy_a_total{group=\"1\"} 3\ngoproxy_a_total{group=\"2\"} 4\n\
                    goproxy_a_total_more{group=\"1\"} 100\n";
        assert_eq!(Counters(text.into()).sum("a_total"), 7);
    }
}
