//! How long a changed file takes to be in force, with many groups of which one has changed.
//!
//! The file is replaced, as editors do, and the reload is asked for over HTTP: its answer comes when the change is in
//! force. So the wait for the file to be quiet is not in the figure, and everything else is. That nothing else was
//! touched is seen in the answer, which names the groups that changed, and in a session through each other group,
//! which lives on.

use std::{
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    admin, idle,
    peers::{Kind, Means, Peer},
    table::{Figure, Ratio, Table},
    workloads::Bench,
};

const NAME: &str = "reload, one group changed";
const UNTIL_IN_FORCE: Figure = Figure::shown("ms until in force").plotted("reload");
const UNTIL_IN_FORCE_MAX: Figure = Figure::absolute("ms until in force, slowest");

const GROUPS: [(u16, &str); 3] = [(1, "1 group"), (100, "100 groups"), (1_000, "1,000 groups")];

/// How many peers all of it takes.
pub(crate) const PEERS: usize = GROUPS.len();

/// Longer than the proxy waits for a file to be quiet, so that each change is seen once by the watcher too.
const PAUSE: Duration = Duration::from_millis(500);

/// Measures one kind of goproxy; `first` is the index of the first variant.
pub(crate) fn run(bench: &mut Bench, kind: Kind, first: usize, means: Means<'_>) -> anyhow::Result<()> {
    let columns = GROUPS.map(|(_, name)| name.to_owned());
    bench.report.begin(Table::new("Reload", "", columns.into(), Ratio::OtherByFirst));
    for (column, (groups, name)) in GROUPS.into_iter().enumerate() {
        eprintln!("peers: {NAME}: {name}");
        let mut peer = Peer::new(kind, first + column, groups, bench.backends.of(first + column), means)?;
        peer.start()?;
        let added = bench.backends.many(first + column, bench.rounds);
        measure(bench, &peer, column, &added)?;
    }
    Ok(())
}

/// Adds one server after the other, each to another group.
fn measure(bench: &mut Bench, peer: &Peer, column: usize, added: &[SocketAddr]) -> anyhow::Result<()> {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&peer.file)?)?;
    let mut sessions = idle::open_many(bench, &peer.targets, peer.targets.len());
    let mut slowest: f64 = 0.0;
    for (round, server) in added.iter().enumerate() {
        let changed = (7 * round) % peer.targets.len();
        let servers =
            config["groups"][changed]["servers"].as_array_mut().context("the file has groups with servers")?;
        servers.push(Value::from(server.to_string()));
        let new = peer.file.with_extension("new");
        fs::write(&new, format!("{config:#}\n"))?;
        let began = Instant::now();
        fs::rename(&new, &peer.file)?;
        let (status, body) = admin::ask(peer.admin.context("goproxy has an admin port")?, "POST", "config-reload.do")?;
        let elapsed = 1e3 * began.elapsed().as_secs_f64();
        ensure!(status == 200, "{NAME}: {body}");
        let answer: Value = serde_json::from_str(&body)?;
        let port = peer.targets[changed].port();
        ensure!(
            answer["changed"] == Value::from(vec![port])
                && answer["opened"] == Value::from(Vec::<u16>::new())
                && answer["closed"] == Value::from(Vec::<u16>::new()),
            "{NAME}: group {port} was to be the only one that changes: {body}"
        );
        bench.report.note(NAME, UNTIL_IN_FORCE, column, round, elapsed);
        slowest = slowest.max(elapsed);
        for (number, session) in sessions.iter_mut().enumerate() {
            if let Err(error) = idle::echo(session, number as u64) {
                bench.faults.add(|| format!("client: session {number} after a reload: {error}"));
            }
        }
        thread::sleep(PAUSE);
    }
    bench.report.note(NAME, UNTIL_IN_FORCE_MAX, column, 0, slowest);
    bench.judge(NAME, peer, sessions.len());
    drop(sessions);
    bench.judge(NAME, peer, 0);
    Ok(())
}
