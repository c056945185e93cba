//! Which group gets a client, by the first bytes that it sends: by the name in its TLS hello, or because it is no TLS.
//!
//! [`RouteTable`] has what the file says with the groups themselves, made for looking up. `control` makes the tables when
//! groups change, and sessions look at them without a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::id::GroupId;
use super::route::{RouteTo, SniMatch, Starttls};
use super::settings::GroupSettings;

/// What stands in front of a name that means every name one label longer.
const WILDCARD: &str = "*.";

/// Where a client goes, where `G` is a group.
#[derive(Clone, Debug)]
pub enum RouteTarget<G> {
    /// To the servers of its own group.
    Own,
    /// It is turned away.
    Close,
    /// To another group, to which it belongs from then on.
    Group(Arc<G>),
}

/// The routes of a group as they are in force.
#[derive(Debug)]
pub struct RouteTable<G> {
    /// In the order of the file.
    routes: Vec<Compiled<G>>,
    /// The routes of each name.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// The routes of each wildcard, by what follows its dot.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    /// The routes for hellos without a name.
    nameless: Vec<usize>,
    /// Those that look at protocols only.
    any: Vec<usize>,
    default: RouteTarget<G>,
    plain: RouteTarget<G>,
    hello_timeout: Duration,
    starttls: Starttls,
}

#[derive(Debug)]
struct Compiled<G> {
    alpn: Vec<String>,
    target: RouteTarget<G>,
}

impl<G> RouteTable<G> {
    /// The table of a group with these settings; `find` knows where the groups are. `None` for a group without routes.
    pub fn new(settings: &GroupSettings, find: impl Fn(&GroupId) -> RouteTarget<G>) -> Option<Self> {
        let target = |to: &RouteTo| match to {
            RouteTo::Own => RouteTarget::Own,
            RouteTo::Close => RouteTarget::Close,
            RouteTo::Group(id) => find(id),
        };
        let mut table = Self {
            routes: Vec::new(),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            nameless: Vec::new(),
            any: Vec::new(),
            default: target(&settings.route_default),
            plain: target(&settings.route_plain),
            hello_timeout: settings.hello_timeout,
            starttls: settings.starttls,
        };
        for (index, route) in settings.routes.as_ref()?.iter().enumerate() {
            table.routes.push(Compiled { alpn: route.alpn.clone(), target: find(&route.group) });
            match &route.sni {
                SniMatch::Any => table.any.push(index),
                SniMatch::Missing => table.nameless.push(index),
                SniMatch::Names(names) => {
                    for name in names {
                        let (map, name) = match name.strip_prefix(WILDCARD) {
                            Some(parent) => (&mut table.wildcard, parent),
                            None => (&mut table.exact, &**name),
                        };
                        map.entry(name.into()).or_default().push(index);
                    }
                }
            }
        }
        Some(table)
    }

    /// Where a client goes whose hello has this name, in lower case, and offers these protocols.
    ///
    /// An exact name wins over a wildcard, whatever their order; otherwise the first route that matches is taken.
    pub fn target(&self, name: Option<&str>, alpn: &[Box<[u8]>]) -> &RouteTarget<G> {
        let first = |routes: &[usize]| routes.iter().copied().find(|index| self.routes[*index].takes(alpn));
        let named = match name {
            None => first(&self.nameless),
            Some(name) => {
                let of = |map: &HashMap<Box<str>, Vec<usize>>, name| map.get(name).and_then(|routes| first(routes));
                let parent = || name.split_once('.').map(|(_, parent)| parent);
                of(&self.exact, name).or_else(|| of(&self.wildcard, parent()?))
            }
        };
        let found = named.into_iter().chain(first(&self.any)).min();
        found.map_or(&self.default, |index| &self.routes[index].target)
    }

    /// Where a client goes that does not speak TLS.
    pub fn plain(&self) -> &RouteTarget<G> {
        &self.plain
    }

    /// How clients may ask for TLS before their hello.
    pub fn starttls(&self) -> Starttls {
        self.starttls
    }

    /// How long a hello may take.
    pub fn hello_timeout(&self) -> Duration {
        self.hello_timeout
    }
}

impl<G> Compiled<G> {
    fn takes(&self, alpn: &[Box<[u8]>]) -> bool {
        self.alpn.is_empty() || self.alpn.iter().any(|own| alpn.iter().any(|offered| own.as_bytes() == &**offered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::route::Route;

    fn route(sni: SniMatch, alpn: &[&str], group: u16) -> Route {
        Route { sni, alpn: alpn.iter().map(ToString::to_string).collect(), group: group.into() }
    }

    fn names(names: &[&str]) -> SniMatch {
        SniMatch::Names(names.iter().map(ToString::to_string).collect())
    }

    /// The port of the group that a hello goes to; 0 for the own servers, 1 for nowhere.
    fn port_of(table: &RouteTable<u16>, name: Option<&str>, alpn: &[&str]) -> u16 {
        let alpn: Vec<Box<[u8]>> = alpn.iter().map(|offered| offered.as_bytes().into()).collect();
        match table.target(name, &alpn) {
            RouteTarget::Own => 0,
            RouteTarget::Close => 1,
            RouteTarget::Group(group) => **group,
        }
    }

    fn table(routes: Vec<Route>, route_default: RouteTo) -> RouteTable<u16> {
        let settings =
            GroupSettings { routes: Some(Arc::new(routes)), route_default, ..GroupSettings::for_tests("ha") };
        let find = |id: &GroupId| match id.as_port() {
            Some(5_000) => RouteTarget::Own,
            Some(port) if port < 9_900 => RouteTarget::Group(Arc::new(port)),
            _ => RouteTarget::Close,
        };
        RouteTable::new(&settings, find).unwrap()
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_that_over_the_default() {
        let routes = vec![
            route(names(&["*.example.com"]), &[], 9_001),
            route(names(&["db.example.com", "other.example"]), &[], 9_002),
            route(SniMatch::Missing, &[], 9_003),
            route(names(&["own.example.com"]), &[], 5_000),
            route(names(&["gone.example.com"]), &[], 9_999),
        ];
        let table = table(routes, RouteTo::Group(9_004.into()));
        for (name, port) in [
            ("db.example.com", 9_002),
            ("other.example", 9_002),
            ("a.example.com", 9_001),
            ("a.b.example.com", 9_004),
            ("example.com", 9_004),
            ("*.example.com", 9_001),
            ("com", 9_004),
            ("own.example.com", 0),
            ("gone.example.com", 1),
        ] {
            assert_eq!(port_of(&table, Some(name), &[]), port, "{name}");
        }
        assert_eq!(port_of(&table, None, &["h2"]), 9_003);
    }

    #[test]
    fn protocols_decide_among_routes_of_the_same_names_in_their_order() {
        let routes = vec![
            route(SniMatch::Any, &["acme-tls/1"], 9_001),
            route(names(&["a.example"]), &["h2", "postgresql"], 9_002),
            route(names(&["a.example"]), &[], 9_003),
            route(names(&["b.example"]), &["h2"], 9_004),
            route(names(&["*.example"]), &["h3"], 9_005),
            route(SniMatch::Any, &["postgresql"], 9_006),
        ];
        let table = table(routes, RouteTo::Close);
        for (name, alpn, port) in [
            ("a.example", &["acme-tls/1"][..], 9_001),
            ("a.example", &["x", "postgresql"], 9_002),
            ("a.example", &["x"], 9_003),
            ("a.example", &[], 9_003),
            ("b.example", &["h2"], 9_004),
            ("b.example", &["h3"], 9_005),
            ("b.example", &["postgresql"], 9_006),
            ("b.example", &[], 1),
        ] {
            assert_eq!(port_of(&table, Some(name), alpn), port, "{name} {alpn:?}");
        }
        assert_eq!(port_of(&table, None, &["postgresql"]), 9_006);
    }
}
