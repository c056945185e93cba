//! The PROXY protocol between us and the real HAProxy and nginx, in front of us and behind us.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, SocketType};

use super::Background;
use super::support::{Client, Ended, FakeServer, TestProxy, eventually, named_echo, ports, wait_for};

/// Sessions through each pair of programs and each family.
const SESSIONS: usize = 1_000;

const HAPROXY_DEFAULTS: &str = "timeout connect 5s\n timeout client 1m\n timeout server 1m\n";

/// nginx with its stream module, where Debian has it.
pub(super) const NGINX_HEAD: &str = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\npid nginx.pid;\nerror_log stderr;\n\
                          worker_processes 1;\nevents { worker_connections 1024; }\n";

pub(super) fn haproxy(home: &Path, text: &str) -> Background {
    let path = home.join("haproxy.cfg");
    fs::write(&path, text).unwrap();
    Background::start(Command::new("haproxy").args(["-db", "-f"]).arg(path).current_dir(home))
}

pub(super) fn nginx(home: &Path, text: &str) -> Background {
    let path = home.join("nginx.conf");
    fs::write(&path, text).unwrap();
    Background::start(Command::new("nginx").arg("-p").arg(home).arg("-c").arg(path).args(["-g", "daemon off;"]))
}

/// A client at an address of its own, where there is more than one.
fn connect(to: SocketAddr) -> std::io::Result<Client> {
    if to.is_ipv6() {
        return TcpStream::connect(to).map(Client::new);
    }
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 7], 0)))?;
    rustix::net::connect(&socket, &to)?;
    Ok(Client::new(TcpStream::from(socket)))
}

/// Asks who we are: our own address, and the one that the last server was told.
fn ask(to: SocketAddr) -> std::io::Result<(String, String)> {
    let mut client = connect(to)?;
    let own = client.stream.local_addr()?.to_string();
    std::io::Write::write_all(&mut client.stream, b"GET / HTTP/1.0\r\n\r\n")?;
    let answer = client.receive_some(4_096);
    let answer = String::from_utf8_lossy(&answer);
    let told = answer.split_once("\r\n\r\n").map_or(&*answer, |(_, body)| body);
    Ok((own, told.trim().replace("::1:", "[::1]:")))
}

#[test]
fn the_commands_of_the_page_do_what_it_says() {
    super::walkthrough::follow("docs/proxy-protocol.md");
}

/// Each client's address goes from HAProxy or nginx through us to nginx or HAProxy.
#[test]
fn haproxy_and_nginx_on_either_side_agree_on_who_the_client_is() {
    let [admin, nginx_back, haproxy_back] = ports();
    let groups: [u16; 4] = ports();
    let fronts: [u16; 16] = ports();
    let home = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let backs = [(nginx_back, "v1"), (nginx_back, "v2"), (haproxy_back, "v1"), (haproxy_back, "v2")];
    let config = groups.iter().zip(backs).map(|(group, (back, version))| {
        format!(
            r#"{{ "name": "g{group}", "listen": ["127.0.0.1:{group}", "[::1]:{group}"], "send_proxy": "{version}",
                 "accept_proxy": {{ "from": ["127.0.0.1", "::1"] }}, "servers": ["127.0.0.1:{back}"] }}"#
        )
    });
    let config: Vec<String> = config.collect();
    let text = format!(r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [{}] }}"#, config.join(", "));
    let proxy = TestProxy::with_file(admin, &text);

    let mut in_haproxy = format!(
        "defaults\n {HAPROXY_DEFAULTS}listen behind\n mode http\n bind 127.0.0.1:{haproxy_back} accept-proxy\n \
         http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port]\"\n"
    );
    let mut in_nginx = format!(
        "{NGINX_HEAD}http {{ access_log off; server {{ listen 127.0.0.1:{nginx_back} proxy_protocol;\n\
         return 200 \"$proxy_protocol_addr:$proxy_protocol_port\"; }} }}\nstream {{\n"
    );
    let ways = ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id", "nginx"];
    for (index, front) in fronts.iter().enumerate() {
        let (group, way) = (groups[index / 4], ways[index % 4]);
        match way {
            "nginx" => {
                in_nginx += &format!(
                    "server {{ listen 127.0.0.1:{front}; listen [::1]:{front}; proxy_pass 127.0.0.1:{group}; \
                     proxy_protocol on; }}\n"
                );
            }
            _ => {
                in_haproxy += &format!(
                    "listen f{front}\n mode tcp\n unique-id-format %ci-%cp\n bind 127.0.0.1:{front}\n \
                     bind [::1]:{front}\n server goproxy 127.0.0.1:{group} {way}\n"
                );
            }
        }
    }
    let _running = (haproxy(home[0].path(), &in_haproxy), nginx(home[1].path(), &(in_nginx + "}\n")));

    for (index, front) in fronts.iter().enumerate() {
        for ip in ["127.0.0.1", "::1"] {
            let to = SocketAddr::new(ip.parse().unwrap(), *front);
            let what = format!("{to}: {} to {:?}", ways[index % 4], backs[index / 4]);
            eventually(&what, || ask(to).is_ok_and(|(own, told)| own == told));
            for _ in 0..SESSIONS {
                let (own, told) = ask(to).unwrap();
                assert_eq!(told, own, "{what}");
            }
        }
    }
    let accepted = proxy.metric("goproxy_proxy_headers_total", &["result=\"accepted\""]) as usize;
    assert!(accepted >= fronts.len() * 2 * SESSIONS, "{accepted}");
    assert_eq!(proxy.ended("bad_header") + proxy.ended("header_timeout"), 0);
    let line = proxy.log.text();
    assert!(line.contains("header.unique_id=127.0.0.7-"), "HAProxy's id of the connection is in the log");
}

#[test]
fn haproxys_checksum_is_verified() {
    let [admin, group, front] = ports();
    let recorded: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let record = Arc::clone(&recorded);
    let server = FakeServer::start(move |mut client, _| record.lock().unwrap().push(client.receive_all().0));
    let home = tempfile::tempdir().unwrap();
    let options = "send-proxy-v2 proxy-v2-options crc32c,unique-id";
    let text = format!(
        "defaults\n {HAPROXY_DEFAULTS}listen front\n mode tcp\n unique-id-format %ci-%cp\n bind 127.0.0.1:{front}\n \
         server recorder {} {options}\n",
        server.addr
    );
    let _haproxy = haproxy(home.path(), &text);
    wait_for("HAProxy is there", || connect(([127, 0, 0, 1], front).into()).ok()).finish();
    let header = wait_for("a header", || recorded.lock().unwrap().pop().filter(|header| !header.is_empty()));
    assert!(header.len() > 28 + 7, "there is a checksum: {header:?}");

    let echo = named_echo();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [ {{ "listen": "127.0.0.1:{group}",
             "accept_proxy": {{ "from": ["127.0.0.0/8"] }}, "servers": ["{}"] }} ] }}"#,
        echo.addr
    );
    let proxy = TestProxy::with_file(admin, &text);
    let name = format!("{}\n", echo.addr);
    let send = |header: &[u8]| {
        let mut client = connect(([127, 0, 0, 1], group).into()).unwrap();
        client.send(header);
        client.finish();
        client.receive_all()
    };
    assert_eq!(send(&header), (name.into_bytes(), Ended::InOrder));
    // In the addresses and ports.
    for bit in 0..12 * 8 {
        let mut flipped = header.clone();
        flipped[16 + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(send(&flipped), (Vec::new(), Ended::Reset), "bit {bit}");
    }
    // The log has lines for some of them only.
    eventually("all are counted", || proxy.ended("bad_header") == 12 * 8);
    eventually("one is logged", || proxy.log.count("PROXY header: v2: CRC32c differs") > 0);
}

/// HAProxy checks every 100 ms whether we are there, and says that it does so for itself.
#[test]
fn haproxys_health_checks_are_counted_and_fill_no_log() {
    let [admin, group, front] = ports();
    let echo = named_echo();
    let text = format!(
        r#"{{ "admin": {{ "listen": "127.0.0.1:{admin}" }}, "groups": [ {{ "listen": "127.0.0.1:{group}",
             "accept_proxy": {{ "from": ["127.0.0.0/8"] }}, "servers": ["{}"] }} ] }}"#,
        echo.addr
    );
    let proxy = TestProxy::with_file(admin, &text);
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "defaults\n {HAPROXY_DEFAULTS}listen front\n mode tcp\n bind 127.0.0.1:{front}\n \
         server goproxy 127.0.0.1:{group} send-proxy-v2 check check-send-proxy inter 100ms\n"
    );
    let _haproxy = haproxy(home.path(), &text);
    let checks = || proxy.metric("goproxy_proxy_headers_total", &["result=\"local\""]);
    eventually("there are checks", || checks() >= 5.0);
    assert_eq!(proxy.log.count("session closed") + proxy.log.count("client connected"), 0, "{}", proxy.log.text());
    let mut client = connect(([127, 0, 0, 1], front).into()).unwrap();
    client.receive(echo.addr.to_string().len() + 1);
    client.finish();
    client.receive_all();
    eventually("the client is told", || proxy.log.count("session closed") == 1);
}
