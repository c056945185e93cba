//! What a parameter's value can be, one type for each meaning.
//!
//! Every endpoint that takes a group, a server or a policy takes it by the type here, so that all of them
//! read and refuse it alike.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::admin::params::{Value, deserialize_values, number, word};
use crate::base::text::echo;
use crate::config::flags;
use crate::control::GroupParam;
use crate::policy::spec::PolicySpec;
use crate::server::{AddrError, ServerAddr, State, WEIGHT_RANGE};

/// Longest name of a zone, in characters: a label is a word, not a document.
const ZONE_MAX: usize = 64;

/// Most servers that one client may be said to have tried: as many as a session may.
const TRIED_MAX: usize = 100;

/// A server of a group.
#[derive(Debug)]
pub(super) struct Server(pub(super) ServerAddr);

/// Servers, separated by commas.
#[derive(Debug, Default)]
pub(super) struct Servers(pub(super) Vec<ServerAddr>);

/// What an operator wants of a server.
#[derive(Debug)]
pub(super) struct Wanted(pub(super) State);

/// A server's share of the sessions.
#[derive(Debug)]
pub(super) struct Weight(pub(super) u16);

/// What a server says of its load, in per cent.
#[derive(Debug)]
pub(super) struct Load(pub(super) u32);

/// Where a server stands.
#[derive(Debug)]
pub(super) struct Zone(pub(super) String);

/// A policy by its name.
#[derive(Debug)]
pub(super) struct Policy(pub(super) PolicySpec);

/// What becomes of the sessions of a group that is closed, or of a server that is taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sessions {
    #[default]
    Keep,
    Close,
}

/// How long to wait for sessions to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait(pub(super) Duration);

/// The number of a session.
#[derive(Debug)]
pub(super) struct Id(pub(super) u64);

/// The number of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventId(pub(super) u64);

/// What a viewer is shown instead of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Ui,
}

/// Whether something is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum YesNo {
    Yes,
    No,
}

/// For how long picks are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordTime(pub(super) Duration);

/// How large a recording may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordMax(pub(super) u64);

/// A client: an IP, or one with a port as in the log; the port is 0 without.
#[derive(Debug)]
pub(super) struct Client(pub(super) SocketAddr);

deserialize_values!(
    GroupParam, Server, Servers, Wanted, Weight, Load, Zone, Policy, Sessions, Wait, Id, EventId, View, Client, YesNo,
    RecordTime, RecordMax,
);

impl Value for GroupParam {
    const EXPECTED: &'static str = GroupParam::EXPECTED;

    fn read(text: &str) -> Result<Self, String> {
        word(text, Self::EXPECTED, |text| text.parse().ok())
    }
}

impl Value for Server {
    const EXPECTED: &'static str = "host:port, ip:port or [ipv6]:port";

    fn read(text: &str) -> Result<Self, String> {
        server(text).map(Self)
    }
}

impl Value for Servers {
    const EXPECTED: &'static str = "servers as host:port, separated by commas, at most 100";

    fn read(text: &str) -> Result<Self, String> {
        let count = text.split(',').count();
        if count > TRIED_MAX {
            return Err(format!("names {count} servers; expected at most {TRIED_MAX}"));
        }
        text.split(',').map(server).collect::<Result<_, _>>().map(Self)
    }
}

impl Value for Wanted {
    const EXPECTED: &'static str = "ready, drain or maint";

    fn read(text: &str) -> Result<Self, String> {
        word(text, Self::EXPECTED, State::parse).map(Self)
    }
}

impl Value for Weight {
    const EXPECTED: &'static str = "a number of 1 to 256";

    fn read(text: &str) -> Result<Self, String> {
        let (min, max) = (u64::from(*WEIGHT_RANGE.start()), u64::from(*WEIGHT_RANGE.end()));
        let weight = number(text, min, max, Self::EXPECTED).map_err(|wrong| match text {
            // What other proxies take for "no new sessions".
            "0" => format!("{wrong}; a server that is to get no new sessions is given the state drain"),
            _ => wrong,
        })?;
        Ok(Self(u16::try_from(weight).expect("its range was checked")))
    }
}

impl Value for Load {
    const EXPECTED: &'static str = "a number of 0 to 100";

    fn read(text: &str) -> Result<Self, String> {
        number(text, 0, 100, Self::EXPECTED).map(|load| Self(u32::try_from(load).expect("its range was checked")))
    }
}

impl Value for Zone {
    const EXPECTED: &'static str = "at most 64 printable characters";

    fn read(text: &str) -> Result<Self, String> {
        word(text, Self::EXPECTED, |text| {
            let fits = text.chars().count() <= ZONE_MAX && !text.chars().any(char::is_control);
            fits.then(|| Self(text.to_owned()))
        })
    }
}

impl Value for Policy {
    const EXPECTED: &'static str = "a name that policy-list.do shows";
    const CODE: &'static str = "unknown_policy";

    /// By the policy's own judgement and words.
    fn read(text: &str) -> Result<Self, String> {
        PolicySpec::parse(text).map(Self).map_err(|error| error.to_string())
    }
}

impl Value for Sessions {
    const EXPECTED: &'static str = "keep or close";

    fn read(text: &str) -> Result<Self, String> {
        word(text, Self::EXPECTED, |text| match text {
            "keep" => Some(Self::Keep),
            "close" => Some(Self::Close),
            _ => None,
        })
    }
}

impl Sessions {
    /// True when they are ended.
    pub(super) fn are_closed(self) -> bool {
        self == Self::Close
    }
}

impl Value for Wait {
    const EXPECTED: &'static str = "0s, or a time of 1ms to 10m";

    fn read(text: &str) -> Result<Self, String> {
        flags::wait(&echo(text)).map(Self)
    }
}

impl Value for Id {
    const EXPECTED: &'static str = "a number that session-list.do shows";

    fn read(text: &str) -> Result<Self, String> {
        number(text, 0, u64::MAX, Self::EXPECTED).map(Self)
    }
}

impl Value for EventId {
    const EXPECTED: &'static str = "the id of an event, or 0";

    fn read(text: &str) -> Result<Self, String> {
        number(text, 0, u64::MAX, Self::EXPECTED).map(Self)
    }
}

impl Value for YesNo {
    const EXPECTED: &'static str = "yes or no";

    fn read(text: &str) -> Result<Self, String> {
        word(text, Self::EXPECTED, |text| match text {
            "yes" => Some(Self::Yes),
            "no" => Some(Self::No),
            _ => None,
        })
    }
}

impl Value for RecordTime {
    const EXPECTED: &'static str = "a time of 1s to 30d";

    fn read(text: &str) -> Result<Self, String> {
        flags::record_time(&echo(text)).map(Self)
    }
}

impl Value for RecordMax {
    const EXPECTED: &'static str = "a size of 64KiB to 64GiB";

    fn read(text: &str) -> Result<Self, String> {
        flags::record_max(&echo(text)).map(Self)
    }
}

impl Value for View {
    const EXPECTED: &'static str = "ui";

    fn read(text: &str) -> Result<Self, String> {
        word(text, Self::EXPECTED, |text| (text == "ui").then_some(Self::Ui))
    }
}

impl Value for Client {
    const EXPECTED: &'static str = "an IP address such as 10.0.0.7";

    fn read(text: &str) -> Result<Self, String> {
        word(text, Self::EXPECTED, |text| {
            let with_port = |ip: IpAddr| SocketAddr::new(ip, 0);
            text.parse().map(with_port).or_else(|_| text.parse::<SocketAddr>()).ok().map(Self)
        })
    }
}

fn server(text: &str) -> Result<ServerAddr, String> {
    text.parse().map_err(|error| {
        let short = match error {
            AddrError::Form(text) => AddrError::Form(echo(&text)),
            AddrError::Port(text) => AddrError::Port(echo(&text)),
            AddrError::Host(text) => AddrError::Host(echo(&text)),
            AddrError::At(text) => AddrError::At(echo(&text)),
            AddrError::TooLong(length) => AddrError::TooLong(length),
        };
        short.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_range() {
        assert_eq!(Weight::read("256").unwrap().0, 256);
        assert_eq!(Load::read("0").unwrap().0, 0);
        assert_eq!(Wanted::read("drain").unwrap().0, State::Drain);
        assert_eq!(Policy::read("ha").unwrap().0.name(), "ha");
        assert_eq!(Id::read("18446744073709551615").unwrap().0, u64::MAX);
        assert_eq!(Sessions::read("close").unwrap(), Sessions::Close);
        assert!(Weight::read("0").unwrap_err().ends_with("is given the state drain"));
        for text in ["257", "-1", "+1", "1.5", ""] {
            assert_eq!(
                Weight::read(text).unwrap_err(),
                format!("cannot use \"{text}\"; expected a number of 1 to 256")
            );
        }
        assert!(Load::read("101").is_err());
        assert!(Wanted::read("READY").is_err());
        assert!(Sessions::read("kill").is_err());
        assert_eq!(Wait::read("10m").unwrap().0, Duration::from_secs(600));
        assert_eq!(Wait::read("601s").unwrap_err(), "\"601s\" is out of range; expected 0s, or 1ms to 10m");
        assert!(Wait::read("30").unwrap_err().contains("has no unit"));
        assert!(Id::read("18446744073709551616").is_err());
        assert!(Zone::read("\0").is_err());
        assert!(Zone::read(&"z".repeat(ZONE_MAX)).is_ok() && Zone::read(&"z".repeat(ZONE_MAX + 1)).is_err());
        let wrong = Policy::read("round_robbin").unwrap_err();
        assert!(wrong.contains("\"round_robbin\"") && wrong.contains("round_robin"), "{wrong}");
    }

    #[test]
    fn a_client_is_an_ip_with_or_without_a_port() {
        for (text, client) in [
            ("10.0.0.7", "10.0.0.7:0"),
            ("10.0.0.7:51234", "10.0.0.7:51234"),
            ("::1", "[::1]:0"),
            ("[2001:db8::7]:80", "[2001:db8::7]:80"),
        ] {
            assert_eq!(Client::read(text).unwrap().0, client.parse().unwrap(), "{text}");
        }
        for text in ["10.0.0", "10.0.0.256", "localhost", "10.0.0.7:", "10.0.0.7:65536", "10.0.0.0/8", "fe80::1%lo"] {
            assert!(Client::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn servers_that_were_tried_are_separated_by_commas_and_bounded() {
        let tried = Servers::read("a:1,[::1]:2").unwrap().0;
        assert_eq!(tried.iter().map(ServerAddr::as_str).collect::<Vec<_>>(), ["a:1", "[::1]:2"]);
        let many = |count| vec!["a:1"; count].join(",");
        assert_eq!(Servers::read(&many(TRIED_MAX)).unwrap().0.len(), TRIED_MAX);
        assert!(Servers::EXPECTED.contains(&TRIED_MAX.to_string()));
        for text in [&many(TRIED_MAX + 1), "a:1,", ",", "a:1;b:2", "a:1,b"] {
            assert!(Servers::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_value_is_repeated_when_it_is_long() {
        let long = "x".repeat(10_000);
        let wrong = [
            Server::read(&long).unwrap_err(),
            Server::read(&long[..200]).unwrap_err(),
            Wanted::read(&long).unwrap_err(),
            GroupParam::read(&long).unwrap_err(),
            Policy::read(&long).unwrap_err(),
            Client::read(&long).unwrap_err(),
            Servers::read(&long).unwrap_err(),
        ];
        for wrong in wrong {
            assert!(!wrong.contains(&long[..65]), "{wrong}");
        }
    }
}
