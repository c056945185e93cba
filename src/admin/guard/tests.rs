use warp::http::Request;

use super::*;

fn settings(token: Option<&str>, register_token: Option<&str>) -> AdminSettings {
    let secret = |text: &str| Secret::new(text.to_owned());
    let (token, register_token) = (token.map(secret), register_token.map(secret));
    AdminSettings { token, register_token, ..AdminSettings::for_tests() }
}

fn head(path: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// Whom some endpoints are for.
fn audience(path: &str) -> Audience {
    match path.split('?').next().unwrap() {
        "/live" | "/ready" => Audience::Everyone,
        "/worker-keepalive.do" => Audience::Workers,
        "/worker-remove.do" => Audience::Both,
        "/worker-list.do" | "/metrics" | "/events" => Audience::Readers,
        _ => Audience::Operators,
    }
}

/// The code of the refusal, or `ok`.
fn judge(path: &str, headers: &[(&str, &str)], settings: &AdminSettings) -> &'static str {
    check(&head(path, headers), false, audience(path), settings).map_or_else(|refusal| refusal.code, |_| "ok")
}

fn host(host: &str) -> &'static str {
    judge("/group-list.do", &[("host", host)], &settings(None, None))
}

#[test]
fn hosts_that_dns_cannot_forge_are_admitted() {
    for name in [
        "127.0.0.1",
        "127.0.0.1:8080",
        "10.0.0.7:1",
        "[::1]:8080",
        "[fe80::1]",
        "localhost",
        "LocalHost:8080",
        "localhost.",
        "localhost.:8080",
        "proxy.localhost:8080",
    ] {
        assert_eq!(host(name), "ok", "{name}");
    }
}

#[test]
fn a_foreign_host_is_refused_on_every_endpoint() {
    for name in [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evillocalhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "localhost:99999",
        "localhost:80:80",
        "[::1",
        "[evil]:80",
        "[::1]x",
        "user@localhost",
        "",
        ":8080",
        ".",
        "::1",
    ] {
        assert_eq!(host(name), "foreign_host", "{name}");
    }
    for path in ["/live", "/ready", "/metrics", "/debug/pprof/", "/nowhere", "/worker-keepalive.do?group=1"] {
        assert_eq!(judge(path, &[("host", "evil.example")], &settings(None, Some("r"))), "foreign_host", "{path}");
    }
}

#[test]
fn a_foreign_name_in_the_request_line_is_refused_too() {
    let none = settings(None, None);
    assert_eq!(judge("http://evil.example/live", &[("host", "localhost")], &none), "foreign_host");
    assert_eq!(judge("http://localhost/live", &[("host", "localhost")], &none), "ok");
}

#[test]
fn there_is_exactly_one_host_but_http_1_0_may_leave_it_out() {
    let none = settings(None, None);
    assert_eq!(judge("/live", &[], &none), "bad_host");
    assert_eq!(judge("/live", &[("host", "localhost"), ("host", "localhost")], &none), "bad_host");
    let mut old = head("/live", &[]);
    old.version = Version::HTTP_10;
    assert_eq!(check(&old, false, Audience::Operators, &none), Ok(Rights::Operator));
}

#[test]
fn with_a_token_or_on_a_unix_socket_any_name_may_be_ours() {
    let headers = [("host", "proxy.internal:8080"), ("authorization", "Bearer t")];
    assert_eq!(judge("/group-list.do", &headers, &settings(Some("t"), None)), "ok");
    assert_eq!(judge("/group-list.do", &headers[..1], &settings(Some("t"), None)), "unauthorized");
    let local = |headers| check(&head("/group-list.do", headers), true, Audience::Operators, &settings(None, None));
    assert_eq!(local(&headers[..1]), Ok(Rights::Operator));
    assert!(local(&[]).is_err(), "but there must be one");
}

#[test]
fn another_site_is_refused_whatever_else_is_right() {
    let all_right = [("host", "localhost:8080"), ("authorization", "Bearer t")];
    let with = |path: &str, name: &'static str, value: &'static str| {
        judge(path, &[all_right[0], all_right[1], (name, value)], &settings(Some("t"), None))
    };
    for path in ["/live", "/group-list.do", "/worker-keepalive.do"] {
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost:8081",
            "http://localhost",
            "localhost:8080",
            "",
            "http://localhost:8080/",
            "http://localhost:8080.evil.example",
            "ftp://localhost:8080",
        ] {
            assert_eq!(with(path, "origin", origin), "cross_site", "{path} {origin}");
        }
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            assert_eq!(with(path, "sec-fetch-site", site), "cross_site", "{path} {site}");
        }
        for origin in ["http://localhost:8080", "https://LOCALHOST:8080"] {
            assert_eq!(with(path, "origin", origin), "ok", "{path} {origin}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(with(path, "sec-fetch-site", site), "ok", "{path} {site}");
        }
    }
    let twice = [all_right[0], all_right[1], ("origin", "http://localhost:8080"), ("origin", "http://evil.example")];
    assert_eq!(judge("/live", &twice, &settings(Some("t"), None)), "cross_site");
}

#[test]
fn the_token_opens_everything_and_nothing_else_does() {
    let both = settings(Some("secret"), Some("worker"));
    let with = |path: &str, value: &'static str| judge(path, &[("host", "::1"), ("authorization", value)], &both);
    for path in ["/group-list.do", "/worker-keepalive.do?group=1", "/metrics", "/debug/pprof/heap", "/nowhere"] {
        assert_eq!(with(path, "Bearer secret"), "ok", "{path}");
        assert_eq!(with(path, "bearer  secret"), "ok", "{path}");
        for wrong in ["Bearer", "Bearer ", "Bearer Secret", "Bearer secret2", "Bearer secre", "Basic secret", "secret"]
        {
            assert_eq!(with(path, wrong), "unauthorized", "{path} {wrong}");
        }
    }
    let no_header = head("/group-list.do?token=secret", &[("host", "x")]);
    let no_header = check(&no_header, false, Audience::Operators, &both).unwrap_err();
    assert_eq!((no_header.status, no_header.more), (StatusCode::UNAUTHORIZED, More::Authenticate));
    let twice = [("host", "x"), ("authorization", "Bearer secret"), ("authorization", "Bearer secret")];
    assert_eq!(judge("/group-list.do", &twice, &both), "unauthorized");
    for path in ["/live", "/ready"] {
        assert_eq!(judge(path, &[("host", "x")], &both), "ok", "{path}");
    }
}

#[test]
fn the_register_token_allows_what_is_for_workers_only() {
    let both = settings(Some("secret"), Some("worker"));
    let with = |path: &str, settings: &AdminSettings| {
        judge(path, &[("host", "localhost"), ("authorization", "Bearer worker")], settings)
    };
    assert_eq!(with("/worker-keepalive.do?group=1", &both), "ok");
    let worker = head("/", &[("host", "localhost"), ("authorization", "Bearer worker")]);
    for audience in [Audience::Workers, Audience::Both] {
        assert_eq!(check(&worker, false, audience, &both), Ok(Rights::Worker));
    }
    for path in ["/worker-state.do", "/worker-list.do", "/metrics"] {
        assert_eq!(with(path, &both), "token_not_enough", "{path}");
    }
    let only_register = settings(None, Some("worker"));
    assert_eq!(with("/worker-keepalive.do", &only_register), "ok");
    assert_eq!(judge("/worker-keepalive.do", &[("host", "localhost")], &only_register), "unauthorized");
    for path in ["/worker-list.do", "/worker-remove.do"] {
        let anybody = head(path, &[("host", "localhost")]);
        assert_eq!(check(&anybody, false, audience(path), &only_register), Ok(Rights::Operator), "{path}");
    }
}

#[test]
fn the_read_token_allows_what_only_looks() {
    let mut all = settings(Some("secret"), Some("worker"));
    all.read_token = Some(Secret::new("look".to_owned()));
    let with = |path: &str| judge(path, &[("host", "x"), ("authorization", "Bearer look")], &all);
    for path in ["/worker-list.do", "/metrics", "/events", "/live"] {
        assert_eq!(with(path), "ok", "{path}");
    }
    for path in ["/worker-keepalive.do", "/worker-remove.do", "/worker-state.do", "/config-reload.do", "/nowhere"] {
        assert_eq!(with(path), "token_not_enough", "{path}");
    }
    assert_eq!(judge("/metrics", &[("host", "x"), ("authorization", "Bearer looks")], &all), "unauthorized");
}

#[test]
fn a_public_place_lets_everybody_in_but_web_pages() {
    let judge = |headers: &[(&str, &str)]| check_public(&head("/metrics", headers)).map_err(|refusal| refusal.code);
    for name in ["10.0.0.7:8083", "proxy.internal:8083"] {
        assert_eq!(judge(&[("host", name)]), Ok(Rights::Reader));
    }
    assert_eq!(judge(&[("host", "p"), ("origin", "http://evil.example")]), Err("cross_site"));
    assert_eq!(judge(&[]), Err("bad_host"));
}

proptest::proptest! {
    #[test]
    fn no_header_panics(
        host: Vec<u8>, origin: Vec<u8>, authorization in "\\PC{0,20}|[Bb]earer [a-z ]{0,5}", site in "\\PC{0,10}",
    ) {
        let mut request = head("/group-list.do", &[]);
        for (name, value) in [
            ("host", host.as_slice()), ("origin", &origin), ("authorization", authorization.as_bytes()),
            ("sec-fetch-site", site.as_bytes()),
        ] {
            if let Ok(value) = warp::http::HeaderValue::from_bytes(value) {
                request.headers.insert(name, value);
            }
        }
        let _ = check(&request, false, Audience::Workers, &settings(Some("t"), Some("r")));
        let _ = check(&request, false, Audience::Workers, &settings(None, None));
    }

    /// Whatever is admitted without a token is an IP or a name that ends in localhost.
    #[test]
    fn only_ips_and_localhost_are_admitted(name in "[a-z0-9.:\\[\\]-]{0,24}|[a-z.]{0,8}localhost(:[0-9]{1,4})?") {
        if is_own_host(&name) {
            let bare = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(':').trim_end_matches('.');
            let is_ip = name.starts_with('[') || name.split(':').next().unwrap().trim_end_matches('.').parse::<std::net::Ipv4Addr>().is_ok();
            proptest::prop_assert!(is_ip || bare == "localhost" || bare.ends_with(".localhost"), "{}", name);
        }
    }
}
