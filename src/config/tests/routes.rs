//! Routes, and what is said of those that lead nowhere.

use super::*;
use crate::config::read::inspect;
use crate::group::{RouteTo, SniMatch};

/// The mistakes of a file with a first group that has these keys, and others to lead to.
fn mistakes(keys: &str) -> Vec<String> {
    let text = format!(
        r#"{{ "groups": [
            {{ "listen": "127.0.0.1:5000", {keys} }},
            {{ "listen": "127.0.0.1:9001", "open": false, "servers": ["10.0.0.1:1"] }},
            {{ "listen": "127.0.0.1:9002", "name": "two" }},
            {{ "listen": "127.0.0.2:9002", "name": "also-two" }},
            {{ "listen": "127.0.0.1:9003", "routes": [] }},
            {{ "listen": "127.0.0.1:9004", "accept_proxy": {{ "from": ["10.0.0.0/8"] }} }},
            {{ "listen": "127.0.0.1:9005", "servers": ["127.0.0.1:9006"] }},
            {{ "listen": "127.0.0.1:9006", "servers": ["127.0.0.1:5000"] }} ] }}"#
    );
    match read(&text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect(),
    }
}

#[test]
fn routes_lead_to_groups_by_port_or_by_name() {
    let text = r#"{ "groups": [ { "listen": "[::]:5000", "route_default": "close", "route_plain": 9001, "hello_timeout": "1s", "routes": [
        { "sni": ["a.example", "*.b.example"], "alpn": ["h2"], "group": 9001 },
        { "sni": null, "group": "two" },
        { "alpn": ["acme-tls/1"], "group": 5000 } ] },
        { "listen": "[::]:9001" }, { "listen": "[::]:9002", "name": "two" } ] }"#;
    let config = read(text).unwrap();
    let settings = &config.groups[0].settings;
    let routes = settings.routes.as_ref().unwrap();
    let sni: Vec<&SniMatch> = routes.iter().map(|route| &route.sni).collect();
    let names = SniMatch::Names(vec!["a.example".to_owned(), "*.b.example".to_owned()]);
    assert_eq!(sni, [&names, &SniMatch::Missing, &SniMatch::Any]);
    assert_eq!((&settings.route_default, &settings.route_plain), (&RouteTo::Close, &RouteTo::Group(9_001.into())));
    assert_eq!(read(&dumped(&config)).unwrap(), config);
    let plain = &config.groups[1].settings;
    assert_eq!(
        (&plain.routes, &plain.route_default, plain.hello_timeout),
        (&None, &RouteTo::Own, Duration::from_secs(5))
    );
}

#[test]
fn a_route_that_leads_nowhere_is_a_mistake_at_its_place() {
    let route = |group: &str| mistakes(&format!(r#""routes": [ {{ "sni": null, "group": {group} }} ]"#));
    for good in ["9001", "\"two\"", "\"also-two\"", "5000"] {
        assert_eq!(route(good), [""; 0], "{good}");
    }
    let no_group = "expected the port or the name of a group of this file";
    assert_eq!(route("9"), [format!("groups[0].routes[0].group: there is no group 9; {no_group}")]);
    assert_eq!(route("\"zwei\""), [format!("groups[0].routes[0].group: there is no group \"zwei\"; {no_group}")]);
    assert_eq!(
        route("9002"),
        ["groups[0].routes[0].group: several groups listen on port 9002; expected the name of one of them"]
    );
    assert_eq!(
        route("9003"),
        ["groups[0].routes[0].group: group 9003 has routes itself; expected a group without routes"]
    );
    assert!(route("9004")[0].starts_with("groups[0].routes[0].group: group 9004 expects PROXY headers"));
    assert_eq!(
        mistakes(r#""routes": [], "route_default": 9, "route_plain": "three""#),
        [
            format!("groups[0].route_default: there is no group 9; {no_group}"),
            format!("groups[0].route_plain: there is no group \"three\"; {no_group}")
        ]
    );
    // Without routes they mean nothing.
    assert_eq!(mistakes(r#""route_default": 9"#), [""; 0]);
}

#[test]
fn a_route_whose_servers_lead_back_is_a_mistake() {
    let found = mistakes(r#""routes": [ { "sni": null, "group": 9005 } ]"#);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("groups[6].servers[0]: \"127.0.0.1:9006\" is groups[7], whose servers"), "{found:#?}");
    assert!(found[1].starts_with("groups[7].servers[0]: \"127.0.0.1:5000\" is groups[0], whose"), "{found:#?}");
}

#[test]
fn names_and_protocols_are_checked() {
    let sni = |sni: &str| mistakes(&format!(r#""routes": [ {{ "sni": {sni}, "group": 9001 }} ]"#));
    for good in [r#"["a"]"#, r#"["*.a"]"#, r#"["_x.a-b.c1", "xn--bcher-kva.example"]"#, "null"] {
        assert_eq!(sni(good), [""; 0], "{good}");
    }
    let long = format!("[\"{}\"]", "a.".repeat(127));
    for (wrong, expected) in [
        (r#"["Db.example"]"#, "\"Db.example\" is no server name; expected lower case"),
        (
            r#"["bücher.example"]"#,
            "\"bücher.example\" is no server name; expected its form for DNS, which begins with xn--",
        ),
        (r#"["10.0.0.1"]"#, "is no server name; expected a name: clients that ask for an address send none"),
        (r#"["*"]"#, "is no server name; expected a name, or \"sni\": \"*\" without the list"),
        (r#"["a.*.b"]"#, "expected * only as the whole first label"),
        (r#"["x*.b"]"#, "expected * only as the whole first label"),
        (r#"["a."]"#, "expected no dot at its end"),
        (r#"["a..b"]"#, "expected labels of 1 to 63 letters"),
        (r#"["a b"]"#, "expected labels of 1 to 63 letters"),
        (r#"[""]"#, "expected a server name, such as"),
        ("[1]", "expected a server name, such as"),
        ("[]", "expected a list of 1 to 1000 names, null, or \"*\", found a list"),
        ("\"a.example\"", "expected a list of 1 to 1000 names, null, or \"*\", found \"a.example\""),
        (&long, "is no server name"),
        ("\"*\"", "it takes every hello; expected sni or alpn, or route_default in the group"),
    ] {
        let found = sni(wrong);
        assert!(found.len() == 1 && found[0].contains(expected), "{wrong}: {found:#?}");
        assert!(found[0].starts_with("groups[0].routes[0]"), "{found:#?}");
    }
    for wrong in [r#""alpn": [""]"#, r#""alpn": "h2""#, r#""group": 0"#, r#""group": "A B""#, r#""grp": 1"#] {
        let found = mistakes(&format!(r#""routes": [ {{ "sni": null, "group": 9001, {wrong} }} ]"#));
        assert!(!found.is_empty() && found[0].starts_with("groups[0].routes[0]."), "{wrong}: {found:#?}");
    }
    let many = vec![r#"{ "sni": null, "group": 9001 }"#; 1_001].join(",");
    assert_eq!(
        mistakes(&format!(r#""routes": [{many}]"#)),
        ["groups[0].routes: 1001 routes are too many; expected at most 1000"]
    );
    assert!(mistakes(r#""routes": [ { "sni": null } ]"#)[0].contains("group is missing"));
    assert!(mistakes(r#""routes": [], "hello_timeout": "50ms""#)[0].contains("expected 100ms to 1m"));
}

#[test]
fn what_never_gets_a_client_is_doubted() {
    let doubts = |keys: &str| {
        let others = r#"{ "listen": "127.0.0.1:9001" }"#;
        let text = format!(r#"{{ "groups": [ {{ "listen": "127.0.0.1:5000", {keys} }}, {others} ] }}"#);
        let inspected = inspect(Path::new(PATH), &text);
        assert!(inspected.problems.is_empty(), "{:#?}", inspected.problems);
        inspected.doubts
    };
    let route = |sni: &str, alpn: &str| format!(r#"{{ "sni": ["{sni}"], "alpn": [{alpn}], "group": 9001 }}"#);
    let routes = |routes: &[String]| doubts(&format!(r#""routes": [{}]"#, routes.join(",")));
    assert_eq!(
        routes(&[route("a", ""), route("b", ""), route("a", "\"h2\"")]),
        ["groups[0].routes[2]: \"a\" is in routes[0] already, which gets all of its clients"]
    );
    assert!(routes(&[route("a", "\"h2\""), route("a", ""), route("*.a", "")]).is_empty());
    assert_eq!(
        doubts(r#""route_plain": "close""#),
        ["groups[0].route_plain: the group has no routes, so it means nothing"]
    );
    assert!(doubts(r#""routes": [], "route_plain": "close", "starttls": "postgresql""#).is_empty());
}

#[test]
fn the_examples_of_the_page_are_in_order() {
    let page = include_str!("../../../docs/tls.md");
    let example = |heading: &str| {
        let below = page.split_once(heading).and_then(|(_, rest)| rest.split("```jsonc\n").nth(1));
        below.and_then(|rest| rest.split("```").next()).expect("an example below the heading")
    };
    let groups = read(&format!("{{ {} }}", example("## Routes\n"))).unwrap().groups;
    assert_eq!(groups[0].settings.routes.as_ref().map(|routes| routes.len()), Some(4));
    let others = r#"{ "listen": "[::]:9001" }, { "listen": "[::]:9002" }"#;
    let groups = read(&format!("{{ \"groups\": [ {}, {others} ] }}", example("## PostgreSQL\n"))).unwrap().groups;
    assert_eq!(groups[0].settings.starttls.as_str(), "postgresql");
}
