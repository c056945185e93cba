//! The keys of a route.

use std::collections::HashMap;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;

use crate::config::declare::settings;
use crate::config::kinds::{Section, alpn, group_of_file, list, section_with, sni};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::{Reader, RoutesTo};
use crate::group::{GroupId, GroupSettings, Route, RouteTo, SniMatch, Starttls};

/// Most protocols of a route.
const PROTOCOLS_MAX: usize = 32;

settings! {
    impl Route {
        /// The server names (SNI) that the route is for, in lower case; *. in front stands for one label. null: hellos without a name;
        /// "*": any hello. An exact name wins over one with *., whatever their order; otherwise the first route counts that
        /// matches.
        sni as sni() => SniMatch::Any, NewSessions;
        /// The hello has to offer one of these protocols (ALPN), such as "h2" or "postgresql"; an empty list takes any hello.
        alpn as list(alpn(), PROTOCOLS_MAX) => Vec::new(), NewSessions;
        /// The group that gets the client, by its port or its name. It need not be open, and from then on the session is one of that
        /// group: its servers, policy and limits hold. The port of the group itself stands for its own servers.
        group as group_of_file(), NewSessions;
    }
}

/// A route.
pub(super) const fn route() -> Section<Route> {
    section_with(check_route)
}

/// Reports a route that takes everything.
fn check_route(reader: &mut Reader, object: &Object, _: &Route) {
    // Where one of them is wrong, that is told already.
    let is_any = |value: &Value| value.as_string_lit().is_some_and(|text| text.value == "*");
    let is_empty = |value: &Value| value.as_array().is_some_and(|list| list.elements.is_empty());
    if object.value("sni").is_none_or(is_any) && object.value("alpn").is_none_or(is_empty) {
        let message = "it takes every hello; expected sni or alpn, or route_default in the group";
        reader.problems.add(object.offset("sni"), object.place, message);
    }
}

/// Notes the groups that a group's routes lead to.
pub(super) fn note_routes(reader: &mut Reader, object: &Object, settings: &GroupSettings) {
    let Some(routes) = &settings.routes else { return doubt_keys(reader, object, settings) };
    doubt_routes(reader, object, routes);
    check_starttls(reader, object, settings, routes);
    let (from, asks) = (reader.group, settings.starttls != Starttls::None);
    let mut note = |to: &GroupId, has_asked_for_tls: bool, offset: usize, place: Place<'_>| {
        let path = place.to_string();
        reader.routes.push(RoutesTo { from, to: to.clone(), has_asked_for_tls, offset, path });
    };
    let place = Place::Key(object.place, "routes");
    let elements = object.value("routes").and_then(Value::as_array).map(|list| &list.elements[..]).unwrap_or_default();
    // Where one of them is wrong, the whole list is not there.
    for (index, (route, element)) in routes.iter().zip(elements).enumerate() {
        let element_place = Place::Index(&place, index);
        let key =
            element.as_object().and_then(|route| route.properties.iter().find(|key| key.name.as_str() == "group"));
        let offset = key.map_or(element.start(), |key| key.value.start());
        note(&route.group, asks, offset, Place::Key(&element_place, "group"));
    }
    for (name, to, asks) in
        [("route_default", &settings.route_default, asks), ("route_plain", &settings.route_plain, false)]
    {
        if let RouteTo::Group(to) = to {
            note(to, asks, object.offset(name), Place::Key(object.place, name));
        }
    }
}

/// Reports a group whose own servers would be asked for TLS within TLS.
fn check_starttls(reader: &mut Reader, object: &Object, settings: &GroupSettings, routes: &[Route]) {
    let leads_here = |to: &GroupId| settings.is_called(to);
    let gets_hellos = match &settings.route_default {
        RouteTo::Own => true,
        RouteTo::Group(to) => leads_here(to),
        RouteTo::Close => false,
    } || routes.iter().any(|route| leads_here(&route.group));
    if settings.starttls != Starttls::None && settings.server_tls.is_some() && gets_hellos {
        let message = "its servers are asked for TLS in the clear, but server_tls begins with it; expected only one of the two, \
                       or routes and route_default that lead to other groups";
        reader.problems.add(object.offset("starttls"), Place::Key(object.place, "starttls"), message);
    }
}

/// Doubts what means nothing in a group without routes.
fn doubt_keys(reader: &mut Reader, object: &Object, settings: &GroupSettings) {
    let asks = settings.starttls != Starttls::None && settings.tls.is_none();
    for (name, is_meant, lacks) in [
        ("route_default", settings.route_default != RouteTo::Own, "no routes"),
        ("route_plain", settings.route_plain != RouteTo::Own, "no routes"),
        ("starttls", asks, "neither routes nor tls"),
    ] {
        if is_meant {
            let place = Place::Key(object.place, name);
            reader.doubts.push(format!("{place}: the group has {lacks}, so it means nothing"));
        }
    }
}

/// Doubts names that an earlier route has, whatever protocols are offered: this route never gets their clients.
fn doubt_routes(reader: &mut Reader, object: &Object, routes: &[Route]) {
    let mut taken: HashMap<&str, usize> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        let SniMatch::Names(names) = &route.sni else { continue };
        for name in names {
            match taken.get(&**name) {
                Some(first) if *first != index => reader.doubts.push(format!(
                    "{}.routes[{index}]: \"{name}\" is in routes[{first}] already, which gets all of its clients",
                    object.place
                )),
                Some(_) => {}
                None if route.alpn.is_empty() => _ = taken.insert(name, index),
                None => {}
            }
        }
    }
}
