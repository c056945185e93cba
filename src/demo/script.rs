//! What happens in the demonstration, and what has to come of it.
//!
//! Each step changes one thing while traffic flows, waits until the proxy reports it, lets sessions gather, and
//! checks where they went. A step that does not come about is an error; one that comes out differently than it
//! should is a finding, and the show goes on. Errors of clients are findings wherever they happen.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::time::sleep;

use super::clients::{Clients, Phase, Tally};
use super::echo::{EchoServer, SERVERS};
use super::screen::{Row, Screen};
use super::stage::Stage;
use crate::base::text::{grouped, size};
use crate::config;

/// Clients at a time, and the longest pause of each between two sessions.
const CLIENTS: usize = 16;
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How long each step is watched at least.
const STEP_TIME: Duration = Duration::from_millis(1_200);

/// Sessions that a step has to have before its spread says something, and how long to wait for them.
const STEP_SESSIONS_MIN: u64 = 48;
const STEP_TIME_MAX: Duration = Duration::from_secs(2);

/// How long the proxy may take to report a change; a suspect server needs a few seconds.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 40 } else { 8 });

/// How often the table moves and the proxy is asked.
const LOOK_EVERY: Duration = Duration::from_millis(80);

/// Plays all steps and sums up; false when something was not as it should be.
///
/// # Errors
///
/// The proxy refuses a request, or never reports what it should.
pub(super) async fn play(stage: &mut Stage, screen: &mut Screen) -> anyhow::Result<bool> {
    let mut script = Script { stage, screen, findings: Vec::new() };
    script.take_turns().await?;
    script.kill_a_server().await?;
    script.change_policy_over_http().await?;
    script.edit_the_file().await?;
    script.bring_the_server_back().await?;
    script.drop_in_a_module().await?;
    script.break_the_module().await?;
    script.mend_the_module().await?;
    script.sum_up().await
}

/// The admin port and the group of `config/proxy.json`.
pub(super) fn default_ports() -> (SocketAddr, SocketAddr) {
    (([127, 0, 0, 1], 8080).into(), ([127, 0, 0, 1], 8081).into())
}

/// Prints the requests to go on with.
pub(super) fn say_what_to_try(screen: &mut Screen, (admin, group): (SocketAddr, SocketAddr), keep: bool) {
    let port = group.port();
    if keep {
        screen.headline("Everything runs on until Ctrl-C. Try:");
        screen.say(&format!("   echo hello | curl -sNm 1 telnet://{group}"));
    } else {
        screen.headline("Next: start goproxy with config/proxy.json, then try:");
        screen.say("   python3 -m http.server 9001 &");
        screen.say(&format!("   curl \"http://{admin}/worker-keepalive.do?group={port}&server=127.0.0.1:9001\""));
        screen.say(&format!("   curl \"http://{group}/\""));
    }
    screen.say(&format!("   curl \"http://{admin}/worker-list.do?group={port}\""));
    screen.say(&format!("   curl \"http://{admin}/group-policy.do?group={port}&policy=least_sessions\""));
    screen.say(&format!("   curl \"http://{admin}/group-close.do?group={port}\""));
    screen.say(&format!("   curl \"http://{admin}/group-open.do?group={port}\""));
    screen.say(&format!("   curl \"http://{admin}/metrics\""));
}

pub(super) struct Script<'a> {
    pub(super) stage: &'a mut Stage,
    pub(super) screen: &'a mut Screen,
    findings: Vec<String>,
}

impl Script<'_> {
    async fn take_turns(&mut self) -> anyhow::Result<()> {
        let (admin, group) = (self.stage.admin, self.port());
        self.screen.headline("goproxy demo");
        self.screen.say(&format!("   group {} · admin port http://{}", self.stage.group.addr, admin.0));
        self.screen.say(&format!("   file {}", self.stage.path().display()));
        self.screen.headline(&format!("1. {SERVERS} servers register themselves"));
        self.screen.say(&format!(
            "   One HTTP request each is enough. {CLIENTS} clients keep connecting; round_robin picks in turn."
        ));
        for server in &mut self.stage.servers {
            server.start(admin, group).await?;
        }
        self.stage.clients = Some(Clients::start(self.stage.group.addr, CLIENTS, PAUSE_MAX, "round_robin"));
        let phase = self.flow().await?;
        let fewest = phase.sessions.into_iter().min().unwrap_or(0);
        // Turns are exact; half a share leaves room for a machine that is too busy for a heartbeat.
        self.expect(fewest * 2 * SERVERS as u64 >= phase.total(), || format!("uneven turns: {:?}", phase.sessions));
        Ok(())
    }

    async fn kill_a_server(&mut self) -> anyhow::Result<()> {
        self.screen.headline("2. Server 1 is killed");
        self.screen.say(
            "   Its port closes and its heartbeats stop, at a moment when no session runs on it.\n   \
             Clients keep connecting. One more session starts here and stays open to the end.",
        );
        let Stage { clients, servers, .. } = &mut *self.stage;
        let clients = clients.as_ref().context("no clients")?;
        clients.next_phase("killed", servers[0].kill()).await;
        clients.open_long_session();
        let (addr, group) = (self.stage.servers[0].addr().to_string(), self.port());
        // It is passed over from the first refused connect on; only when its lease is over is it out of the list.
        let is_silent =
            |server: &Value| server["cause"].as_str().is_some_and(|cause| cause.starts_with("no heartbeat"));
        let gone = |answer: &Value| {
            let mut servers = answer["servers"].as_array().into_iter().flatten();
            servers.any(|server| server["addr"] == *addr && is_silent(server))
        };
        self.until("the lease of server 1 runs out", &format!("/worker-list.do?group={group}"), gone).await?;
        let phase = self.flow().await?;
        let counters = self.stage.admin.counters().await?;
        self.screen.say(&format!(
            "   {} of {SERVERS} servers are online. Connects refused: {}, tried again on another server: {}.\n   \
             Clients that noticed: {}.",
            SERVERS - 1,
            counters.sum("connect_errors_total"),
            counters.sum("connect_retries_total"),
            self.tally()?.errors,
        ));
        let goes_on = phase.sessions[0] == 0 && phase.sessions[1..].iter().all(|count| *count > 0);
        self.expect(goes_on, || format!("not on the other servers: {:?}", phase.sessions));
        Ok(())
    }

    async fn change_policy_over_http(&mut self) -> anyhow::Result<()> {
        let path = format!("/group-policy.do?group={}&policy=ip_hash", self.port());
        self.screen.headline("3. The policy is changed over HTTP");
        self.screen.command(&format!("curl \"http://{}{path}\"", self.stage.admin.0));
        self.stage.admin.call(&path).await?;
        let (number, line) = self.policy_line()?;
        self.screen.say(&format!(
            "   In effect, and saved: your comments stay. Line {number} of proxy.json is now\n   {line}"
        ));
        self.expect(line.contains("\"ip_hash\""), || format!("proxy.json does not say ip_hash: {line}"));
        self.next_phase("ip_hash").await?;
        let phase = self.flow().await?;
        let (clients, faithful) = (phase.met.len(), phase.met.values().filter(|servers| servers.len() == 1).count());
        self.screen.say(&format!("   Of {clients} client addresses, {faithful} met the same server every time."));
        self.expect(clients == faithful, || format!("{} client addresses met several servers", clients - faithful));
        Ok(())
    }

    async fn edit_the_file(&mut self) -> anyhow::Result<()> {
        self.screen.headline("4. proxy.json is edited by hand");
        self.screen.command("sed -i 's/\"ip_hash\"/\"ha\"/' proxy.json");
        let path = self.stage.path();
        let text = std::fs::read_to_string(&path).context("cannot read proxy.json")?;
        std::fs::write(&path, text.replace("\"ip_hash\"", "\"ha\"")).context("cannot write proxy.json")?;
        let edited = Instant::now();
        let is_ha = |answer: &Value| answer["groups"][0]["policy"] == "ha";
        self.until("the edit of proxy.json takes effect", "/group-list.do", is_ha).await?;
        self.screen.say(&format!(
            "   In effect {} ms later: ha sends everybody to the first server that is online, server 2.",
            edited.elapsed().as_millis()
        ));
        self.next_phase("ha").await?;
        let phase = self.flow().await?;
        self.expect(phase.sessions[1] == phase.total(), || format!("not all on server 2: {:?}", phase.sessions));
        Ok(())
    }

    async fn bring_the_server_back(&mut self) -> anyhow::Result<()> {
        self.screen.headline("5. Server 1 comes back");
        let (admin, group) = (self.stage.admin, self.port());
        self.stage.servers[0].start(admin, group).await?;
        // It is passed over until the proxy has found out that it answers again.
        let addr = self.stage.servers[0].addr().to_string();
        let is_back = |answer: &Value| {
            let mut servers = answer["servers"].as_array().into_iter().flatten();
            servers.any(|server| server["addr"] == *addr && server["online"] == true && server["suspect"] == false)
        };
        self.until("server 1 is trusted again", &format!("/worker-list.do?group={group}"), is_back).await?;
        self.screen.say("   It takes its old place, the first in the list, so new clients go to it.");
        self.next_phase("back").await?;
        let phase = self.flow().await?;
        self.expect(phase.sessions[0] == phase.total(), || format!("not all on server 1: {:?}", phase.sessions));
        Ok(())
    }

    async fn sum_up(mut self) -> anyhow::Result<bool> {
        self.clients()?.stop().await;
        let nobody = |answer: &Value| answer["groups"][0]["sessions"] == 0;
        self.until("the last session ends", "/group-list.do", nobody).await?;
        let (tally, counters) = (self.tally()?, self.stage.admin.counters().await?);
        let (sessions, errors) = (tally.sessions(), tally.errors);
        self.say_spread(&tally);
        self.screen.headline("Result");
        self.screen.say(&format!(
            "   sessions  {}, of which the echo was right: {}",
            grouped(sessions + errors),
            grouped(sessions)
        ));
        self.screen.say(&format!("   bytes     {} up, {} down", size(tally.bytes_up), size(tally.bytes_down)));
        self.screen.say(&format!("   errors    {errors}"));
        let retries = counters.sum("connect_retries_total");
        self.screen.say(&format!("   retries   {retries} connects, tried again on another server"));
        if let Some(time) = tally.long_session {
            self.screen.say(&format!(
                "   longest   one session stayed open through steps 2 to 8, {:.1} s",
                time.as_secs_f64()
            ));
        }
        self.expect(sessions > 0, || "no session at all".into());
        self.expect(errors == 0, || tally.first_error.clone().unwrap_or_default());
        self.expect(tally.long_session.is_some(), || "the session that was to stay open did not".into());
        self.compare("sessions", sessions, counters.sum("sessions_total"));
        self.compare("bytes up", tally.bytes_up, counters.sum("bytes_up_total"));
        self.compare("bytes down", tally.bytes_down, counters.sum("bytes_down_total"));
        for index in 0..SERVERS {
            let server = self.stage.servers[index].sessions();
            self.compare(&format!("sessions of server {}", index + 1), tally.sessions_of(index), server);
        }
        match self.findings.as_slice() {
            [] => self.screen.good("   Clients, servers and proxy counted the same. Everything went as it should."),
            findings => self.screen.bad(&format!("   Something went wrong:\n   {}", findings.join("\n   "))),
        }
        Ok(self.findings.is_empty())
    }

    fn say_spread(&mut self, tally: &Tally) {
        self.screen.headline("Sessions of each server, by step");
        let names = (1..=SERVERS).map(|number| format!("{:>10}", format!("server {number}"))).collect::<String>();
        self.screen.say(&format!("   {:<12}{names}", ""));
        for phase in &tally.phases {
            let counts = phase.sessions.iter().map(|count| format!("{:>10}", grouped(*count))).collect::<String>();
            self.screen.say(&format!("   {:<12}{counts}", phase.name));
        }
    }

    /// Shows traffic until there is enough of it in this phase.
    pub(super) async fn flow(&mut self) -> anyhow::Result<Phase> {
        let start = Instant::now();
        loop {
            sleep(LOOK_EVERY).await;
            let phase = self.tally()?.phase();
            self.screen.show(&self.rows(&phase));
            let is_enough = start.elapsed() >= STEP_TIME && phase.total() >= STEP_SESSIONS_MIN;
            if is_enough || start.elapsed() >= STEP_TIME_MAX {
                self.screen.settle(&self.rows(&phase));
                return Ok(phase);
            }
        }
    }

    /// Shows traffic until the answer of `path` is as wanted.
    pub(super) async fn until(&mut self, what: &str, path: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let start = Instant::now();
        while !is_so(&self.stage.admin.call(path).await?) {
            if start.elapsed() >= CHANGE_TIME_MAX {
                bail!("waited {} s until {what}, and it did not happen", CHANGE_TIME_MAX.as_secs());
            }
            self.screen.show(&self.rows(&self.tally()?.phase()));
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    pub(super) async fn next_phase(&mut self, name: &str) -> anyhow::Result<()> {
        self.clients()?.next_phase(name, async {}).await;
        Ok(())
    }

    fn rows(&self, phase: &Phase) -> Vec<Row> {
        let row = |(index, server): (usize, &EchoServer)| Row {
            name: format!("server {}", index + 1),
            sessions: phase.sessions[index],
            is_alive: server.is_alive(),
        };
        self.stage.servers.iter().enumerate().map(row).collect()
    }

    /// Notes a finding unless `is_so`.
    pub(super) fn expect(&mut self, is_so: bool, finding: impl FnOnce() -> String) {
        if !is_so {
            self.findings.push(finding());
        }
    }

    fn compare(&mut self, what: &str, clients: u64, others: u64) {
        self.expect(clients == others, || format!("{what}: the clients counted {clients}, the other side {others}"));
    }

    /// The line of the file that holds the policy, and its number.
    fn policy_line(&self) -> anyhow::Result<(usize, String)> {
        let text =
            std::fs::read_to_string(self.stage.path()).with_context(|| format!("cannot read {}", config::FILE_NAME))?;
        let mut lines = text.lines().enumerate();
        let (index, line) = lines.find(|(_, line)| line.contains("\"policy\"")).context("proxy.json has no policy")?;
        Ok((index + 1, line.to_owned()))
    }

    fn clients(&self) -> anyhow::Result<&Clients> {
        self.stage.clients.as_ref().context("there are no clients yet")
    }

    pub(super) fn tally(&self) -> anyhow::Result<Tally> {
        Ok(self.clients()?.tally())
    }

    pub(super) fn port(&self) -> u16 {
        self.stage.group.addr.port()
    }
}
