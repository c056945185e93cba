//! A network namespace of our own, so that nothing on the host disturbs the figures or is disturbed.
//!
//! The program starts itself again through `unshare`, brings the loopback up and sets what the figures depend
//! on: the congestion control, the range of client ports, the reuse of TIME_WAIT. Root is not needed where the
//! kernel lets users create namespaces.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use rustix::{
    net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType},
    process::{Resource, Rlimit},
};

use crate::tools;

const NAMESPACE: &str = "/proc/self/ns/net";
const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// What the report says about the network.
pub(crate) struct Network {
    pub(crate) congestion_control: String,
}

/// Starts this program again in a new network namespace. Comes back only with the reason why it cannot.
pub(crate) fn reenter() -> anyhow::Error {
    match try_reenter() {
        Ok(never) => match never {},
        Err(error) => error.context("no network namespace; run as root, or where users may create namespaces"),
    }
}

/// Makes the namespace usable.
///
/// # Errors
///
/// When `outside`, the name of the namespace the program was started in, is still the one it is in: the host's
/// settings are never touched.
pub(crate) fn prepare(outside: &Path) -> anyhow::Result<Network> {
    ensure!(fs::read_link(NAMESPACE)? != outside, "this is not a namespace of its own");
    loopback_up().context("cannot bring the loopback up")?;
    // Where a setting is refused the default serves as well, only more slowly; the report states what is in force.
    for (key, value) in [
        (CONGESTION, "reno"),
        ("/proc/sys/net/ipv4/ip_local_port_range", "16384 65535"),
        ("/proc/sys/net/ipv4/tcp_tw_reuse", "2"),
    ] {
        if let Err(error) = fs::write(key, value) {
            eprintln!("peers: {key}: cannot be set to {value}: {error}");
        }
    }
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(Network { congestion_control: fs::read_to_string(CONGESTION)?.trim().to_owned() })
}

/// How many descriptors a process may have; a million where there is no limit.
pub(crate) fn descriptors() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(1_000_000).min(1_000_000)
}

fn try_reenter() -> anyhow::Result<std::convert::Infallible> {
    let unshare = tools::find("unshare").context("unshare: not found; install the package util-linux")?;
    let mut refusals = Vec::new();
    for flags in [&["--net"][..], &["--map-root-user", "--net"]] {
        let probe = Command::new(&unshare).args(flags).arg("true").stdin(Stdio::null()).output()?;
        if !probe.status.success() {
            refusals.push(String::from_utf8_lossy(&probe.stderr).trim().to_owned());
            continue;
        }
        let error = Command::new(&unshare)
            .args(flags)
            .arg("--")
            .arg(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .arg("--inside")
            .arg(fs::read_link(NAMESPACE)?)
            .exec();
        return Err(error).context("cannot run unshare");
    }
    bail!("{}", refusals.join("; "))
}

/// Asks the kernel over netlink to set the flag UP on interface 1, which is `lo` in every namespace.
fn loopback_up() -> anyhow::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_WITH_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: the kernel's
    message.extend([0; 4]); // any family, any type
    message.extend(1_i32.to_ne_bytes()); // the interface
    message.extend(IFF_UP.to_ne_bytes()); // flags
    message.extend(IFF_UP.to_ne_bytes()); // which of them change

    // No protocol is protocol 0, which is NETLINK_ROUTE.
    let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 256];
    let (len, _) = net::recv(&socket, &mut answer, RecvFlags::empty())?;
    ensure!(len >= 20, "netlink answered with {len} bytes");
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if code != 0 {
        return Err(std::io::Error::from_raw_os_error(-code).into());
    }
    Ok(())
}
