//! The parameters of a request: read from the query and from a form body, each at most once.
//!
//! Strict on purpose: an operator's typo must not be taken for a default. A parameter that is unknown,
//! repeated, empty or badly encoded is refused by name, with what was expected. No input panics.

use std::net::{IpAddr, SocketAddr};

use warp::http::StatusCode;

use super::reply::{Refusal, cut};
use crate::policy::spec::PolicySpec;
use crate::server::{AddrError, ServerAddr, State, WEIGHT_RANGE};

/// Longest name of a zone, in characters: a label is a word, not a document.
const ZONE_MAX: usize = 64;

/// Most servers that one client may be said to have tried: as many as a session may.
const TRIED_MAX: usize = 100;

/// The only form of body that is read.
const FORM: &str = "application/x-www-form-urlencoded";

/// Checked names with decoded values; whether a value makes sense is asked one by one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Params {
    values: Vec<(&'static str, String)>,
}

impl Params {
    /// Reads the query and the body of a request to an endpoint that knows the parameters `known`.
    ///
    /// # Errors
    ///
    /// Names the parameter that is unknown, repeated, empty or badly encoded, or the body's type.
    pub(super) fn parse(
        query: &str,
        content_type: Option<&str>,
        body: &[u8],
        known: &[&'static str],
    ) -> Result<Self, Refusal> {
        let mut params = Self::default();
        params.read(query.as_bytes(), known)?;
        if !body.is_empty() {
            let kind = content_type.and_then(|text| text.split(';').next()).unwrap_or("").trim();
            if !kind.eq_ignore_ascii_case(FORM) {
                let msg = format!("body: cannot read type \"{}\"; expected {FORM}", cut(kind));
                return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", msg));
            }
            params.read(body, known)?;
        }
        Ok(params)
    }

    /// The value as sent; `None` when it was not.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// `group`, which must be there.
    pub(super) fn group(&self) -> Result<u16, Refusal> {
        self.group_if_any()?.ok_or_else(|| missing("group", "a port of 1 to 65535"))
    }

    /// `group`, where it only narrows the answer.
    pub(super) fn group_if_any(&self) -> Result<Option<u16>, Refusal> {
        let port = self.number("group", 1, u64::from(u16::MAX), "a port of 1 to 65535")?;
        Ok(port.map(|port| u16::try_from(port).expect("its range was checked")))
    }

    /// `server`, which must be there.
    pub(super) fn server(&self) -> Result<ServerAddr, Refusal> {
        let text = self.text("server").ok_or_else(|| missing("server", "host:port, ip:port or [ipv6]:port"))?;
        server_addr("server", text)
    }

    /// `tried`: servers, separated by commas; none when it was not sent.
    pub(super) fn tried(&self) -> Result<Vec<ServerAddr>, Refusal> {
        let Some(text) = self.text("tried") else { return Ok(Vec::new()) };
        let count = text.split(',').count();
        if count > TRIED_MAX {
            let msg = format!("tried: names {count} servers; expected at most {TRIED_MAX}");
            return Err(Refusal::bad("bad_parameter", msg));
        }
        text.split(',').map(|text| server_addr("tried", text)).collect()
    }

    /// `client`, which must be there: an IP, or one with a port as in the log; the port is 0 without.
    pub(super) fn client(&self) -> Result<SocketAddr, Refusal> {
        let expected = "an IP address such as 10.0.0.7";
        let read = |text: &str| {
            let with_port = |ip: IpAddr| SocketAddr::new(ip, 0);
            text.parse().map(with_port).or_else(|_| text.parse::<SocketAddr>()).ok()
        };
        self.word("client", expected, read)?.ok_or_else(|| missing("client", expected))
    }

    pub(super) fn state_if_any(&self) -> Result<Option<State>, Refusal> {
        self.word("state", "ready, drain or maint", State::parse)
    }

    /// `state`, which must be there.
    pub(super) fn state(&self) -> Result<State, Refusal> {
        self.state_if_any()?.ok_or_else(|| missing("state", "ready, drain or maint"))
    }

    pub(super) fn weight_if_any(&self) -> Result<Option<u32>, Refusal> {
        let (min, max) = (u64::from(*WEIGHT_RANGE.start()), u64::from(*WEIGHT_RANGE.end()));
        let weight = self.number("weight", min, max, "a number of 1 to 256")?;
        Ok(weight.map(|weight| u32::try_from(weight).expect("its range was checked")))
    }

    pub(super) fn load_if_any(&self) -> Result<Option<u32>, Refusal> {
        let load = self.number("load", 0, 100, "a number of 0 to 100")?;
        Ok(load.map(|load| u32::try_from(load).expect("its range was checked")))
    }

    pub(super) fn zone_if_any(&self) -> Result<Option<String>, Refusal> {
        self.word("zone", "at most 64 printable characters", |text| {
            let fits = text.chars().count() <= ZONE_MAX && !text.chars().any(char::is_control);
            fits.then(|| text.to_owned())
        })
    }

    /// `policy` by the factory's own judgement and words.
    pub(super) fn policy_if_any(&self) -> Result<Option<PolicySpec>, Refusal> {
        let parsed = self.text("policy").map(PolicySpec::parse).transpose();
        parsed.map_err(|error| Refusal::bad("unknown_policy", format!("policy: {error}")))
    }

    /// `policy`, which must be there.
    pub(super) fn policy(&self) -> Result<PolicySpec, Refusal> {
        self.policy_if_any()?.ok_or_else(|| missing("policy", "a name that policy-list.do shows"))
    }

    /// True for `sessions=close`.
    pub(super) fn closes_sessions(&self) -> Result<bool, Refusal> {
        let word = self.word("sessions", "keep or close", |text| match text {
            "keep" => Some(false),
            "close" => Some(true),
            _ => None,
        })?;
        Ok(word.unwrap_or(false))
    }

    /// `id` of a session, which must be there.
    pub(super) fn id(&self) -> Result<u64, Refusal> {
        let expected = "a number that session-list.do shows";
        self.number("id", 0, u64::MAX, expected)?.ok_or_else(|| missing("id", expected))
    }

    pub(super) fn seconds_if_any(&self, max: u64) -> Result<Option<u64>, Refusal> {
        self.number("seconds", 1, max, &format!("a number of 1 to {max}"))
    }

    fn read(&mut self, encoded: &[u8], known: &[&'static str]) -> Result<(), Refusal> {
        for pair in encoded.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = equals.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            let sent = decode(name).ok_or_else(|| bad_encoding(name))?;
            let Some(name) = known.iter().copied().find(|known| *known == sent) else {
                return Err(Refusal::bad("unknown_parameter", unknown(&sent, known)));
            };
            if self.text(name).is_some() {
                let msg = format!("{name}: given more than once; expected one value");
                return Err(Refusal::bad("repeated_parameter", msg));
            }
            let value = decode(value).ok_or_else(|| bad_encoding(name.as_bytes()))?;
            if value.is_empty() {
                let msg = format!("{name}: has no value; expected {name}=…");
                return Err(Refusal::bad("empty_parameter", msg));
            }
            self.values.push((name, value));
        }
        Ok(())
    }

    fn word<T>(
        &self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let value = read(text).ok_or_else(|| {
            Refusal::bad("bad_parameter", format!("{name}: cannot use \"{}\"; expected {expected}", cut(text)))
        })?;
        Ok(Some(value))
    }

    fn number(&self, name: &'static str, min: u64, max: u64, expected: &str) -> Result<Option<u64>, Refusal> {
        self.word(name, expected, |text| {
            let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| is_decimal && (min..=max).contains(number))
        })
    }
}

fn server_addr(name: &'static str, text: &str) -> Result<ServerAddr, Refusal> {
    text.parse().map_err(|error| {
        let short = match error {
            AddrError::Form(text) => AddrError::Form(cut(&text)),
            AddrError::Port(text) => AddrError::Port(cut(&text)),
            AddrError::Host(text) => AddrError::Host(cut(&text)),
            AddrError::TooLong(length) => AddrError::TooLong(length),
        };
        Refusal::bad("bad_parameter", format!("{name}: {short}"))
    })
}

/// Undoes percent-encoding and `+`; `None` for a broken escape or for bytes that are not UTF-8.
fn decode(encoded: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(*byte).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => *other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn missing(name: &'static str, expected: &str) -> Refusal {
    Refusal::bad("missing_parameter", format!("{name}: missing; expected {expected}"))
}

fn bad_encoding(name: &[u8]) -> Refusal {
    let name = cut(&String::from_utf8_lossy(name));
    Refusal::bad("bad_encoding", format!("{name}: is not percent-encoded UTF-8; expected %XX with two hex digits"))
}

fn unknown(name: &str, known: &[&'static str]) -> String {
    let expected = if known.is_empty() { "no parameters".to_owned() } else { known.join(", ") };
    format!("{}: unknown parameter; expected {expected}", cut(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] =
        &["group", "server", "weight", "state", "zone", "load", "policy", "id", "sessions", "client", "tried"];

    fn query(text: &str) -> Result<Params, Refusal> {
        Params::parse(text, None, b"", KNOWN)
    }

    fn code(result: Result<impl std::fmt::Debug, Refusal>) -> &'static str {
        result.unwrap_err().code
    }

    #[test]
    fn the_old_curl_line_is_read() {
        let params = query("group=8081&server=localhost:11111").unwrap();
        assert_eq!(params.group().unwrap(), 8081);
        assert_eq!(params.server().unwrap().as_str(), "localhost:11111");
        assert_eq!(params.weight_if_any().unwrap(), None);
    }

    #[test]
    fn query_and_form_are_one_set_of_parameters() {
        let form = Some("Application/X-WWW-Form-Urlencoded; charset=utf-8");
        let params = Params::parse("group=8081", form, b"server=%5B%3A%3A1%5D%3A80&zone=a+b", KNOWN).unwrap();
        assert_eq!(params.server().unwrap().as_str(), "[::1]:80");
        assert_eq!(params.zone_if_any().unwrap().as_deref(), Some("a b"));
        let twice = Params::parse("group=1", form, b"group=1", KNOWN).unwrap_err();
        assert_eq!(
            (twice.code, twice.msg.as_str()),
            ("repeated_parameter", "group: given more than once; expected one value")
        );
    }

    #[test]
    fn a_body_of_another_type_is_refused() {
        for kind in [None, Some("application/json"), Some("text/plain"), Some("")] {
            let refusal = Params::parse("", kind, b"group=1", KNOWN).unwrap_err();
            assert_eq!(refusal.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind:?}");
        }
        assert!(Params::parse("", Some("application/json"), b"", KNOWN).is_ok(), "an empty body has no type");
    }

    #[test]
    fn each_kind_of_bad_parameter_is_named() {
        let unknown = query("group=1&grupp=2").unwrap_err();
        assert_eq!(unknown.code, "unknown_parameter");
        assert!(unknown.msg.starts_with("grupp: unknown parameter; expected group, server, weight"), "{}", unknown.msg);
        assert_eq!(
            Params::parse("a=1", None, b"", &[]).unwrap_err().msg,
            "a: unknown parameter; expected no parameters"
        );
        for text in ["group=", "group", "=1&group=1"] {
            assert!(matches!(code(query(text)), "empty_parameter" | "unknown_parameter"), "{text}");
        }
        for text in ["group=%", "group=%1", "group=%zz", "group=%ff", "%ff=1", "group=%+1"] {
            assert_eq!(code(query(text)), "bad_encoding", "{text}");
        }
        assert_eq!(code(query("").unwrap().group()), "missing_parameter");
        assert_eq!(code(query("group=1").unwrap().server()), "missing_parameter");
    }

    #[test]
    fn a_group_is_a_decimal_port_without_a_sign() {
        for (text, port) in [("1", 1), ("65535", 65535), ("8081", 8081), ("%38081", 8081)] {
            assert_eq!(query(&format!("group={text}")).unwrap().group().unwrap(), port);
        }
        for text in ["0", "65536", "-1", "%2B80", "+80", "0x50", "1e3", "80.0", "99999999999999999999999", "８０"] {
            assert_eq!(code(query(&format!("group={text}")).unwrap().group()), "bad_parameter", "{text}");
        }
    }

    #[test]
    fn every_other_parameter_has_its_range() {
        let get = |text: &str| query(text).unwrap();
        assert_eq!(get("weight=256").weight_if_any().unwrap(), Some(256));
        assert_eq!(get("load=0").load_if_any().unwrap(), Some(0));
        assert_eq!(get("state=drain").state().unwrap(), State::Drain);
        assert_eq!(get("policy=ha").policy().unwrap().name(), "ha");
        assert_eq!(get("id=18446744073709551615").id().unwrap(), u64::MAX);
        assert!(get("sessions=close").closes_sessions().unwrap());
        assert!(!get("").closes_sessions().unwrap());
        for text in ["weight=0", "weight=257", "weight=-1"] {
            assert_eq!(code(get(text).weight_if_any()), "bad_parameter", "{text}");
        }
        assert_eq!(code(get("load=101").load_if_any()), "bad_parameter");
        assert_eq!(code(get("state=READY").state_if_any()), "bad_parameter");
        assert_eq!(code(get("sessions=kill").closes_sessions()), "bad_parameter");
        assert_eq!(code(get("id=18446744073709551616").id()), "bad_parameter");
        assert_eq!(code(get("zone=%00").zone_if_any()), "bad_parameter");
        assert_eq!(code(get(&format!("zone={}", "z".repeat(65))).zone_if_any()), "bad_parameter");
        let refusal = get("policy=round_robbin").policy().unwrap_err();
        assert_eq!(refusal.code, "unknown_policy");
        assert!(refusal.msg.contains("\"round_robbin\"") && refusal.msg.contains("round_robin"), "{}", refusal.msg);
    }

    #[test]
    fn a_client_is_an_ip_with_or_without_a_port() {
        for (text, client) in [
            ("10.0.0.7", "10.0.0.7:0"),
            ("10.0.0.7:51234", "10.0.0.7:51234"),
            ("::1", "[::1]:0"),
            ("%5B2001:db8::7%5D:80", "[2001:db8::7]:80"),
        ] {
            assert_eq!(query(&format!("client={text}")).unwrap().client().unwrap(), client.parse().unwrap(), "{text}");
        }
        for text in ["10.0.0", "10.0.0.256", "localhost", "10.0.0.7:", "10.0.0.7:65536", "10.0.0.0/8", "fe80::1%25lo"] {
            assert_eq!(code(query(&format!("client={text}")).unwrap().client()), "bad_parameter", "{text}");
        }
        assert_eq!(code(query("").unwrap().client()), "missing_parameter");
    }

    #[test]
    fn servers_that_were_tried_are_separated_by_commas_and_bounded() {
        assert_eq!(query("").unwrap().tried().unwrap(), []);
        let tried = query("tried=a:1,%5B::1%5D:2").unwrap().tried().unwrap();
        assert_eq!(tried.iter().map(ServerAddr::as_str).collect::<Vec<_>>(), ["a:1", "[::1]:2"]);
        let many = |count| format!("tried={}", vec!["a:1"; count].join(","));
        assert_eq!(query(&many(TRIED_MAX)).unwrap().tried().unwrap().len(), TRIED_MAX);
        for text in [&many(TRIED_MAX + 1), "tried=a:1,", "tried=,", "tried=a:1;b:2", "tried=a:1,b"] {
            assert_eq!(code(query(text).unwrap().tried()), "bad_parameter", "{text}");
        }
    }

    #[test]
    fn no_answer_repeats_long_input() {
        let long = "x".repeat(10_000);
        let params = query(&format!(
            "server={}&state={long}&group={long}&policy={long}&client={long}&tried={long}",
            &long[..200]
        ))
        .unwrap();
        let answers = [
            params.server().unwrap_err(),
            params.state().unwrap_err(),
            params.group().unwrap_err(),
            params.policy().unwrap_err(),
            params.client().unwrap_err(),
            params.tried().unwrap_err(),
            query(&long).unwrap_err(),
            query(&format!("{long}%")).unwrap_err(),
            Params::parse("", Some(&long), b"a", KNOWN).unwrap_err(),
        ];
        for refusal in answers {
            assert!(!refusal.msg.contains(&long[..65]), "{}", refusal.msg);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(query in "\\PC{0,60}|[a-z=&%+0-9]{0,40}", body: Vec<u8>, form: bool) {
            let kind = form.then_some("application/x-www-form-urlencoded");
            if let Ok(params) = Params::parse(&query, kind, &body, KNOWN) {
                let _ = (params.group(), params.server(), params.state(), params.weight_if_any(), params.id());
                let _ = (params.load_if_any(), params.zone_if_any(), params.policy(), params.closes_sessions());
                let _ = (params.client(), params.tried());
            }
        }

        /// Whatever a client encodes is what the endpoint sees.
        #[test]
        fn an_encoded_value_is_read_back(value in "\\PC{1,30}") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let params = query(&format!("zone={encoded}")).unwrap();
            proptest::prop_assert_eq!(params.text("zone"), Some(value.as_str()));
        }
    }
}
