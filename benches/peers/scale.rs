//! goproxy against itself: what a connection costs when there is more of everything.
//!
//! More groups, more servers, more idle sessions beside. The variants run at once and take turns within each round, as
//! the peers do, so a ratio is one within a round. Cost is to grow with the work and not with the size.

use crate::{
    Part, idle,
    peers::{Kind, Means, Peer},
    table::{Ratio, Table},
    wire::Op,
    workloads::{Bench, Workload, exchanges},
};

/// How many peers all of it takes: each variant is one.
pub(crate) const PEERS: usize = 7;

const SHORT: Workload = exchanges("short, client closes", Part::Scale, Op::Reply, 30_000, 64);
const PINGPONG: Workload = exchanges("ping-pong, 1 connection on 1 CPU", Part::Scale, Op::Echo, 100_000, 1);

const GROUPS: [(u16, &str); 3] = [(1, "1 group"), (100, "100 groups"), (1_000, "1,000 groups")];
const SERVERS: [(usize, &str); 2] = [(10, "10 servers"), (10_000, "10,000 servers")];

/// Measures one kind of goproxy; `first` is the index of the first variant.
pub(crate) fn run(bench: &mut Bench, kind: Kind, first: usize, means: Means<'_>) -> anyhow::Result<()> {
    let mut indexes = first..;
    let mut peer = |bench: &Bench, groups: u16, servers: Option<usize>| {
        let index = indexes.next().unwrap_or_default();
        let servers =
            servers.map_or_else(|| bench.backends.of(index).to_vec(), |count| bench.backends.many(index, count));
        Peer::new(kind, index, groups, &servers, means)
    };

    let peers = GROUPS.map(|(groups, _)| peer(bench, groups, None)).into_iter().collect::<anyhow::Result<_>>()?;
    let columns = GROUPS.map(|(_, name)| name.to_owned());
    compare(bench, Table::new("More groups", "groups-", columns.into(), Ratio::OtherByFirst), peers)?;

    let peers = SERVERS.map(|(servers, _)| peer(bench, 1, Some(servers))).into_iter().collect::<anyhow::Result<_>>()?;
    let columns = SERVERS.map(|(_, name)| name.to_owned());
    compare(bench, Table::new("More servers", "servers-", columns.into(), Ratio::OtherByFirst), peers)?;

    let mut peers = [peer(bench, 1, None)?, peer(bench, 1, None)?];
    peers.iter_mut().try_for_each(Peer::start)?;
    beside_idle(bench, kind, &peers)
}

/// Short connections through these peers, which then end.
fn compare(bench: &mut Bench, table: Table, mut peers: Vec<Peer>) -> anyhow::Result<()> {
    bench.report.begin(table);
    peers.iter_mut().try_for_each(Peer::start)?;
    bench.run_workload(&SHORT, &peers)?;
    bench.count_syscalls(&peers)
}

/// The second peer has idle sessions while it works.
fn beside_idle(bench: &mut Bench, kind: Kind, peers: &[Peer]) -> anyhow::Result<()> {
    let count = idle::count(bench.quick, &[kind])?;
    let columns = vec!["0 idle sessions beside".to_owned(), format!("{count} idle sessions beside")];
    bench.report.begin(Table::new("Idle sessions beside", "beside-", columns, Ratio::OtherByFirst));
    let sessions = idle::open_many(bench, &peers[1].targets, count);
    if bench.judge("idle sessions beside", &peers[1], count) {
        bench.held = count;
        bench.run_workload(&SHORT, peers)?;
        bench.run_workload(&PINGPONG, peers)?;
        bench.count_syscalls(peers)?;
        bench.held = 0;
    }
    drop(sessions);
    bench.judge("idle sessions beside", &peers[1], 0);
    Ok(())
}
