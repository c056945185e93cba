//! Groups have names: two may share a port on different addresses, one may listen on several, and every request finds
//! a group by its name, its port or an address.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::{Client, FakeServer, TestProxy, eventually, ports, replace};

/// Two groups share a port on different addresses, the first of them listens on two; a third goes by its port.
fn file(admin: u16, shared: u16, second: u16, plain: u16, servers: [&SocketAddr; 3]) -> String {
    let [one, two, three] = servers;
    format!(
        r#"{{
  "admin": {{ "listen": "127.0.0.1:{admin}" }},
  "groups": [
    {{ "name": "orders", "listen": ["127.0.0.1:{shared}", "127.0.0.1:{second}"], "servers": ["{one}"] }},
    {{ "name": "stock", "listen": "127.0.0.2:{shared}", "servers": [{{ "addr": "{two}", "name": "stock-1" }}] }},
    {{ "listen": "127.0.0.1:{plain}", "servers": ["{three}"] }}
  ]
}}
"#
    )
}

fn reaches(ip: &str, port: u16) -> bool {
    Client::try_connect(format!("{ip}:{port}").parse().unwrap()).is_ok()
}

fn echoes(ip: &str, port: u16) {
    Client::try_connect(format!("{ip}:{port}").parse().unwrap()).unwrap().echo(b"hello");
}

#[test]
fn a_group_is_found_by_its_name_its_port_or_an_address() {
    let [admin, shared, second, plain] = ports();
    let (one, two, three) = (FakeServer::echo(), FakeServer::echo(), FakeServer::echo());
    let servers = [&one.addr, &two.addr, &three.addr];
    let mut proxy = TestProxy::with_file(admin, &file(admin, shared, second, plain, servers));
    for (ip, port) in [("127.0.0.1", shared), ("127.0.0.1", second), ("127.0.0.2", shared), ("127.0.0.1", plain)] {
        echoes(ip, port);
    }
    let online = |group: &str| proxy.ok(&format!("/worker-list.do?group={group}"))["list"].clone();
    let (of_orders, of_stock) = (json!([one.addr.to_string()]), json!([two.addr.to_string()]));
    for group in ["orders".to_owned(), format!("127.0.0.1:{shared}"), format!("127.0.0.1:{second}"), second.to_string()]
    {
        assert_eq!(online(&group), of_orders, "{group}");
    }
    for group in ["stock".to_owned(), format!("127.0.0.2:{shared}")] {
        assert_eq!(online(&group), of_stock, "{group}");
    }
    assert_eq!(online(&plain.to_string()), json!([three.addr.to_string()]));
    let refused = proxy.refused(&format!("/worker-list.do?group={shared}"), 409, "group_ambiguous");
    assert!(refused["msg"].as_str().unwrap().contains("orders, stock"), "{refused}");
    proxy.refused("/worker-list.do?group=shelves", 404, "group_not_found");
    let refused = proxy.refused("/group-open.do?group=shelves", 404, "group_not_found");
    assert_eq!(refused["msg"], "no group shelves; expected a group that group-list.do shows, or the port of a new one");

    let groups = proxy.ok("/group-list.do")["groups"].clone();
    let shown: Vec<_> = groups.as_array().unwrap().iter().map(|group| (&group["group"], &group["name"])).collect();
    let (orders, stock) = (json!("orders"), json!("stock"));
    let (shared_json, plain_json) = (json!(shared), json!(plain));
    assert_eq!(shown.len(), 3);
    for expected in [(&shared_json, &orders), (&shared_json, &stock), (&plain_json, &serde_json::Value::Null)] {
        assert!(shown.contains(&expected), "{expected:?}: {groups}");
    }
    for group in ["orders", "stock", &plain.to_string()] {
        let series = format!("goproxy_sessions_total{{group=\"{group}\"}}");
        eventually(&series, || proxy.series(&series).is_some_and(|count| count >= 1.0));
    }
    eventually("the log tells names beside ports", || proxy.log.text().contains("group.name=stock"));
    proxy.stop();
}

#[test]
fn changes_by_name_reach_the_file_and_only_that_group() {
    let [admin, shared, second, plain] = ports();
    let (one, two, three) = (FakeServer::echo(), FakeServer::echo(), FakeServer::echo());
    let servers = [&one.addr, &two.addr, &three.addr];
    let mut proxy = TestProxy::with_file(admin, &file(admin, shared, second, plain, servers));
    proxy.ok("/group-policy.do?group=stock&policy=ha");
    proxy.ok(&format!("/worker-keepalive.do?group=orders&server={}", three.addr));
    proxy.ok(&format!("/worker-state.do?group=stock&server={}&state=drain", two.addr));
    proxy.ok("/group-close.do?group=orders");
    eventually("both addresses of the group are closed", || {
        !reaches("127.0.0.1", shared) && !reaches("127.0.0.1", second)
    });
    assert!(reaches("127.0.0.2", shared), "the other group of that port goes on");
    proxy.ok("/group-open.do?group=orders");
    echoes("127.0.0.1", second);
    let config: serde_json::Value = serde_json::from_str(&proxy.file()).unwrap();
    let [orders, stock, _] = config["groups"].as_array().unwrap().as_slice() else { panic!("{config}") };
    assert_eq!((&orders["name"], orders["servers"].as_array().unwrap().len()), (&json!("orders"), 2), "{config}");
    assert_eq!((&stock["policy"], &stock["servers"][0]["state"]), (&json!("ha"), &json!("drain")), "{config}");
    proxy.stop();
}

#[test]
fn a_named_group_keeps_its_counts_when_its_addresses_change() {
    let [admin, shared, second, plain] = ports();
    let (one, two, three) = (FakeServer::echo(), FakeServer::echo(), FakeServer::echo());
    let servers = [&one.addr, &two.addr, &three.addr];
    let text = file(admin, shared, second, plain, servers);
    let mut proxy = TestProxy::with_file(admin, &text);
    let mut held = Client::connect(format!("127.0.0.1:{second}").parse().unwrap());
    held.echo(b"before");
    // The second address of the group goes to the third group, which gives its own back.
    let moved = text
        .replace(&format!("[\"127.0.0.1:{shared}\", \"127.0.0.1:{second}\"]"), &format!("\"127.0.0.1:{shared}\""))
        .replace(&format!("{{ \"listen\": \"127.0.0.1:{plain}\""), &format!("{{ \"listen\": \"127.0.0.1:{second}\""));
    replace(proxy.path(), &moved);
    eventually("the old address is closed", || !reaches("127.0.0.1", plain));
    held.echo(b"after");
    let mut moved_client = Client::connect(format!("127.0.0.1:{second}").parse().unwrap());
    moved_client.echo(b"hello");
    let sessions = proxy.ok(&format!("/session-list.do?group={second}"))["sessions"].clone();
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
    assert_eq!(sessions[0]["server"], json!(three.addr.to_string()), "{sessions}");
    let of_orders = proxy.ok("/session-list.do?group=orders")["sessions"].clone();
    assert_eq!(
        (of_orders.as_array().unwrap().len(), &of_orders[0]["group_name"]),
        (1, &json!("orders")),
        "{of_orders}"
    );
    drop((held, moved_client));
    proxy.stop();
}
