//! Any edits of any file: what they must keep.

use proptest::prelude::*;

use super::*;
use crate::access::{AccessChoice, AccessFormat, AccessPath, AccessPrefix, AccessSettings};

/// Edits of servers and groups that are there or are not.
fn any_edit() -> impl Strategy<Value = Edit> {
    let group = prop_oneof![Just(8081_u16), Just(8083), Just(8090), Just(8091)];
    let server = (0_u16..6).prop_map(|index| {
        addr(["127.0.0.1:9101", "127.0.0.1:9102", "a.internal:1", "b:2", "c:3", "d:4"][usize::from(index)])
    });
    let state = prop_oneof![Just(State::Ready), Just(State::Drain), Just(State::Maint)];
    let labels = proptest::collection::btree_map("[a-z/,]{1,3}", "[a-z\"\\\\/*ä]{0,4}", 0..3);
    let names = crate::policy::built_in::BUILT_IN.into_iter().chain(["wasm:mine", "wasm:other"]).collect::<Vec<_>>();
    let policy = proptest::sample::select(names).prop_map(|name| PolicySpec::parse(name).unwrap());
    (group, server, 1_u16..4, state, labels, policy, 0..7_u8).prop_map(
        |(group, addr, weight, state, labels, policy, kind)| match kind {
            0 | 1 => {
                let mut server = ServerSettings::new(addr, if weight == 1 { Origin::File } else { Origin::Heartbeat });
                (server.weight, server.state, server.labels) = (weight, state, labels);
                Edit::AddServer { group: group.into(), server }
            }
            2 => Edit::RemoveServer { group: group.into(), addr },
            3 => Edit::SetServer {
                group: group.into(),
                addr,
                weight: Some(weight),
                state: Some(state),
                labels: Some(labels),
            },
            4 => Edit::OpenGroup { group: group.into(), policy: (weight == 1).then_some(policy) },
            5 => Edit::CloseGroup { group: group.into() },
            _ => Edit::SetPolicy { group: group.into(), policy },
        },
    )
}

/// Comments that stand within a server; they go when it does.
const INNER: [&str; 14] = [
    " two ",
    " 12 ",
    " 13 ",
    " 14 ",
    " 15",
    " 1 to 256",
    " true: each address of a name is a server of its own",
    " only when no other is online",
    " 0: no limit",
    " null: as the group",
    " or drain, maint",
    " false: never checked; { \"port\": 9100 }: checked there",
    " heartbeat: it registered itself",
    " written by the proxy when its heartbeats have stopped",
];

/// The comments of a text in order, but for [`INNER`].
fn comments(text: &str) -> Vec<String> {
    let collect =
        jsonc_parser::CollectOptions { comments: jsonc_parser::CommentCollectionStrategy::AsTokens, tokens: true };
    let tokens = jsonc_parser::parse_to_ast(text, &collect, &Default::default()).unwrap().tokens.unwrap();
    let comments = tokens.into_iter().filter_map(|token| match token.token {
        jsonc_parser::tokens::Token::CommentLine(text) | jsonc_parser::tokens::Token::CommentBlock(text) => {
            Some(text.trim_end_matches('\r').to_owned())
        }
        _ => None,
    });
    comments.filter(|comment| !INNER.contains(&comment.as_str())).collect()
}

proptest! {
    /// Whatever is edited, all in one go or one by one: the comments are there, in order, and the text
    /// means what was asked for.
    #[test]
    fn edits_keep_every_comment_and_mean_what_they_say(
        edits in proptest::collection::vec(any_edit(), 0..12),
        text in prop_oneof![Just(SHIPPED), Just(COMMENTED), Just(MODULES), Just("{ /* 1 */ \"groups\" /* 2 */ : /* 3 */ [ // 4\n /* 5 */ { /* 6 */ \"listen\": \"0.0.0.0:8081\" /* 7 */ , /* 8 */ \"servers\" : [ /* 9 */ \"b:2\" /* 10 */ , /* 11 */ {\"addr\":\"c:3\", \"labels\": { /* 12 */ \"a\" : /* 13 */ \"x\" /* 14 */ } // 15\n } /* 16 */ , // 17\n ] /* 18 */ } ] // 19\n }")],
        is_crlf: bool,
    ) {
        let text = if is_crlf { text.replace('\n', "\r\n") } else { text.to_owned() };
        let mut at_once = document(&text);
        let mut one_by_one = text.clone();
        for edit in &edits {
            let mut single = document(&one_by_one);
            prop_assert_eq!(at_once.apply(edit), single.apply(edit));
            one_by_one = single.text();
            prop_assert_eq!(single.config(), at_once.config());
            let read = parse(Path::new(PATH), &one_by_one);
            prop_assert_eq!(read.as_ref(), Ok(at_once.config()), "{}", &one_by_one);
        }
        let all_at_once = at_once.text();
        let read = parse(Path::new(PATH), &all_at_once);
        prop_assert_eq!(read.as_ref(), Ok(at_once.config()), "{}", &all_at_once);
        prop_assert_eq!(comments(&all_at_once), comments(&text));
        prop_assert_eq!(comments(&one_by_one), comments(&text));
        if is_crlf {
            prop_assert!(!all_at_once.replace("\r\n", "").contains('\n'));
        }
    }

    /// What edits make of a file is the same when it is kept beside the file: as text, and laid over the file again.
    #[test]
    fn an_overlay_over_the_file_is_what_the_edits_made_of_it(
        edits in proptest::collection::vec(any_edit(), 0..12),
        text in prop_oneof![Just(SHIPPED), Just(COMMENTED), Just(MODULES)],
    ) {
        let mut document = document(text);
        let said = document.config().clone();
        for edit in &edits {
            let _ = document.apply(edit);
        }
        let overlay = Overlay::between(&said, document.config(), &Overlay::default(), "then");
        let read = Overlay::parse(&overlay.text()).unwrap();
        prop_assert_eq!(&read, &overlay);
        let (groups, overruled) = read.over(&said, Path::new(PATH));
        prop_assert_eq!(&groups, &document.config().groups);
        prop_assert_eq!(overruled, vec![]);
        // The text means it, too, and nothing is another thing by being kept.
        let kept = Document::with_groups(Path::new(PATH), text, said.clone(), groups);
        let checked = parse(Path::new(PATH), &kept.text());
        prop_assert_eq!(checked.as_ref(), Ok(document.config()));
        let again = Overlay::between(&said, kept.config(), &overlay, "later");
        prop_assert_eq!(&again, &overlay);
        prop_assert!(overlay.without(None, None).overrides().is_empty());
    }

    /// A whole configuration that is written is read back as the same.
    #[test]
    fn a_dump_reads_back_as_itself(edits in proptest::collection::vec(any_edit(), 0..12), times in proptest::array::uniform6(1_000_000..600_000_000_000_u64), sizes in proptest::array::uniform3(1..1_000_u32), switches: [bool; 4]) {
        let mut document = document(if switches[3] { SHIPPED } else { MODULES });
        for edit in &edits {
            let _ = document.apply(edit);
        }
        let mut config = document.config().clone();
        let time = |index: usize| Duration::from_nanos(times[index]);
        config.drain_timeout = time(0);
        (config.log.format, config.log.level) = (LogFormat::Json, LogLevel::Trace);
        config.log.status_interval = Duration::from_millis(100) + time(1);
        config.threads = sizes[0] as usize;
        config.pin_threads = switches[1];
        config.policy_max_bytes = 1_024 + u64::from(sizes[1]);
        config.policies_dir = if switches[0] { "/var/lib/policies".into() } else { "/etc/goproxy/p".into() };
        let admin = &mut config.admin;
        admin.listen = if switches[1] { AdminListen::Unix("/run/a b.sock".into()) } else { AdminListen::Tcp("0.0.0.0:9".parse().unwrap()) };
        admin.token = Some(Secret::new("t\"\\".to_owned()));
        admin.register_token = switches[2].then(|| Secret::new("r".to_owned()));
        admin.read_token = switches[3].then(|| Secret::new("o".to_owned()));
        (admin.metrics_listen, admin.metrics_public) = (switches[0].then(|| "[::1]:7".parse().unwrap()), switches[1]);
        admin.register_allow = switches[3].then(|| vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        admin.allow_get_changes = switches[0];
        admin.pprof_listen = switches[2].then(|| "[::1]:8".parse().unwrap());
        let prefix = if switches[3] { AccessPrefix::None } else { AccessPrefix::Syslog };
        config.access_log = switches[0].then(|| AccessSettings {
            format: AccessFormat::Haproxy,
            path: if switches[1] { AccessPath::Stderr } else { AccessPath::File("/var/log/a \"b\".log".into()) },
            connect_line: false,
            prefix,
        });
        for group in &mut config.groups {
            let settings = &mut group.settings;
            settings.access_log = match (switches[1], switches[2]) {
                (true, true) => AccessChoice::Inherited,
                (true, false) => AccessChoice::Off,
                _ => AccessChoice::Own(Box::new(AccessSettings {
                    format: if switches[0] { AccessFormat::Json } else { AccessFormat::Text },
                    path: AccessPath::File("/etc/goproxy/stderr".into()),
                    connect_line: switches[3],
                    prefix: AccessPrefix::Syslog,
                })),
            };
            (settings.connect_timeout, settings.connect_attempts, settings.idle_timeout) = (time(2), sizes[2] % 100 + 1, time(3));
            (settings.half_close_timeout, settings.heartbeat_timeout, settings.max_sessions) = (Some(time(4)), time(5), sizes[0]);
            (settings.forget_after, settings.bind_retry) = (time(1), switches[3]);
            let from = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
            settings.accept_proxy = switches[2].then(|| Arc::new(AcceptProxy { from, timeout: Duration::from_millis(sizes[1].into()) + Duration::from_millis(100) }));
            (settings.send_proxy, settings.proxy_unique_id) = (if switches[0] { SendProxy::V1 } else { SendProxy::V2 }, switches[1]);
            group.servers.iter_mut().for_each(|server| (server.backup, server.max_sessions) = (switches[1], sizes[1]));
            group.servers.iter_mut().for_each(|server| server.send_proxy = switches[3].then_some(SendProxy::None));
        }
        let text = dumped(&config);
        let read = parse(Path::new(PATH), &text);
        prop_assert_eq!(read.as_ref(), Ok(&config), "{}", &text);
    }
}
