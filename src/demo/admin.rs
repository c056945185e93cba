//! The admin port as `curl` would use it: one request, one connection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A request is over by then, or has failed.
const TIME_MAX: Duration = Duration::from_secs(5);

/// More than any answer in a demonstration has.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The admin port.
#[derive(Clone, Copy)]
pub(super) struct Admin(pub(super) SocketAddr);

impl Admin {
    /// Asks for `path` and answers with the fields of the reply, which must be ok.
    pub(super) async fn call(self, path: &str) -> anyhow::Result<Value> {
        let answer: Value = serde_json::from_str(&self.http_get(path).await?).with_context(|| format!("GET {path}"))?;
        if answer["ok"] != true {
            bail!("GET {path}: {}", answer["msg"]);
        }
        Ok(answer)
    }

    /// What the proxy has counted, from `/metrics`.
    pub(super) async fn counters(self) -> anyhow::Result<Counters> {
        Ok(Counters(self.http_get("/metrics").await?))
    }

    async fn http_get(self, path: &str) -> anyhow::Result<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.0).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.0);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(TIME_MAX, exchange).await.map_err(|_| anyhow::anyhow!("no answer"));
        let answer = answer.flatten().with_context(|| format!("GET {path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("GET {path}: not HTTP"))?;
        // A refusal says why in the same form.
        ensure!(head.starts_with("HTTP/1.1 200 ") || body.starts_with('{'), "GET {path}: {head}");
        Ok(body.to_owned())
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
