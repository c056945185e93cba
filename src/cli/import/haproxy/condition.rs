//! Conditions of rules: those by the client's address, and by its counts.

use std::collections::BTreeMap;

use crate::cli::import::draft::Sni;
use crate::cli::import::tls::server_name;

/// What one term of a condition asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// The client is in one of these networks, or is not.
    Source { networks: Vec<String>, is_not: bool },
    /// The client has more sessions than this, without the one in question.
    Sessions(u32),
    /// The client has more new sessions in the time of the table than this.
    Rate(u32),
}

/// What a condition asks of a TLS hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) sni: Sni,
    pub(super) alpn: Vec<String>,
}

/// What a condition asks of hellos, of which one alternative has to hold.
#[derive(Debug, Default)]
pub(super) struct Hellos {
    pub(super) any_of: Vec<Hello>,
    /// The named conditions that it uses.
    pub(super) named: Vec<String>,
    /// What is to be said of names.
    pub(super) doubts: Vec<String>,
}

/// Named conditions, of which each line that has the name is enough.
pub(super) type Acls = BTreeMap<String, Vec<Vec<String>>>;

/// One of the things that have to hold at once.
struct Asked {
    is_not: bool,
    /// One of these is enough.
    any_of: Vec<Vec<String>>,
}

/// A condition as alternatives of which each is a list of what has to hold, and the names that it uses; `None` where it
/// makes no sense.
fn alternatives(words: &[&str], acls: &Acls) -> Option<(bool, Vec<Vec<Asked>>, Vec<String>)> {
    let (is_unless, words) = match words {
        ["if", rest @ ..] => (false, rest),
        ["unless", rest @ ..] => (true, rest),
        _ => return None,
    };
    let mut named = Vec::new();
    let parts = words.split(|word| ["or", "||"].contains(word));
    let found = parts.map(|part| all_of(part, acls, &mut named)).collect::<Option<_>>()?;
    Some((is_unless, found, named))
}

fn all_of(mut words: &[&str], acls: &Acls, named: &mut Vec<String>) -> Option<Vec<Asked>> {
    let mut found = Vec::new();
    let mut is_not = false;
    while let Some((first, rest)) = words.split_first() {
        let plain = first.trim_start_matches('!');
        is_not ^= (first.len() - plain.len()) % 2 == 1;
        words = rest;
        let any_of = match plain {
            "" => continue,
            "{" => {
                let end = rest.iter().position(|word| *word == "}")?;
                words = &rest[end + 1..];
                vec![rest[..end].iter().map(|word| (*word).to_owned()).collect()]
            }
            name => {
                named.push(name.to_owned());
                acls.get(name)?.clone()
            }
        };
        found.push(Asked { is_not: std::mem::take(&mut is_not), any_of });
    }
    (!found.is_empty()).then_some(found)
}

/// Reads what follows on the action of a rule: `if …` or `unless …`, terms of which one has to hold. `is_counted` is true
/// where the session in question is counted already. Also names the conditions that it uses.
///
/// # Errors
///
/// It asks for something else.
pub(super) fn terms(words: &[&str], acls: &Acls, is_counted: bool) -> Result<(Vec<Term>, Vec<String>), String> {
    let other = || "only conditions by the client's address and counts have an equivalent".to_owned();
    let (is_unless, parts, named) = alternatives(words, acls).ok_or_else(other)?;
    if is_unless && parts.len() > 1 {
        return Err(other());
    }
    let mut found = Vec::new();
    for part in &parts {
        let [Asked { is_not, any_of }] = &part[..] else { return Err(other()) };
        let is_not = *is_not != is_unless;
        let terms: Option<Vec<Term>> = any_of.iter().map(|asked| term(asked, is_not, is_counted)).collect();
        found.extend(merged(terms.ok_or_else(other)?));
    }
    // Both together would have to hold at once.
    let is_list = found.iter().any(|term| matches!(term, Term::Source { is_not: true, .. }));
    if is_list && found.len() > 1 {
        return Err(other());
    }
    Ok((found, named))
}

/// The same with one list of networks.
fn merged(terms: Vec<Term>) -> Vec<Term> {
    let mut found: Vec<Term> = Vec::new();
    for term in terms {
        match (found.last_mut(), term) {
            (Some(Term::Source { networks, is_not }), Term::Source { networks: more, is_not: also })
                if *is_not == also =>
            {
                networks.extend(more);
            }
            (_, term) => found.push(term),
        }
    }
    found
}

/// Reads a condition that asks for names or protocols of a TLS hello.
///
/// # Errors
///
/// It asks for something else.
pub(super) fn hellos(words: &[&str], acls: &Acls) -> Result<Hellos, String> {
    let other = || "servers are chosen by the name and the protocols of a TLS hello, and by nothing else".to_owned();
    let (false, parts, named) = alternatives(words, acls).ok_or_else(other)? else { return Err(other()) };
    let mut found = Hellos { named, ..Hellos::default() };
    for part in parts {
        let (mut names, mut alpn) = (Vec::new(), Vec::new());
        for Asked { is_not, any_of } in part {
            for asked in any_of {
                match (is_not, asked_of_hello(&asked, &mut found.doubts).ok_or_else(other)?) {
                    // A client with a name speaks TLS.
                    (false, OfHello::IsTls) => {}
                    (false, OfHello::Names(more)) => names.extend(more),
                    (false, OfHello::Protocols(more)) => alpn.extend(more),
                    (true, _) => return Err(other()),
                }
            }
        }
        let sni = match names.is_empty() {
            true if alpn.is_empty() => return Err(other()),
            true => Sni::Any,
            false => Sni::Names(names),
        };
        found.any_of.push(Hello { sni, alpn });
    }
    Ok(found)
}

/// True for a condition that holds for clients that speak TLS, false for one that holds for all others. Also names the
/// conditions that it uses.
pub(super) fn is_tls(words: &[&str], acls: &Acls) -> Option<(bool, Vec<String>)> {
    let (is_unless, parts, named) = alternatives(words, acls)?;
    let [part] = &parts[..] else { return None };
    let [Asked { is_not, any_of }] = &part[..] else { return None };
    let asks = any_of.iter().all(|asked| matches!(asked_of_hello(asked, &mut Vec::new()), Some(OfHello::IsTls)));
    asks.then_some((*is_not == is_unless, named))
}

/// What one term asks of a hello.
enum OfHello {
    IsTls,
    Names(Vec<String>),
    Protocols(Vec<String>),
}

fn asked_of_hello(asked: &[String], doubts: &mut Vec<String>) -> Option<OfHello> {
    let (what, words) = asked.split_first()?;
    let what = what.split(',').next().unwrap_or_default().replacen("req_ssl", "req.ssl", 1);
    let (mut values, mut method) = (Vec::new(), what.strip_prefix("req.ssl_sni_").unwrap_or("str"));
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-m" => method = words.next()?,
            "-i" | "--" => {}
            flag if flag.starts_with('-') => return None,
            value => values.push(value.to_owned()),
        }
    }
    if values.is_empty() {
        return None;
    }
    match (what.as_str(), method) {
        ("req.ssl_hello_type", _) if values == ["1"] => Some(OfHello::IsTls),
        ("req.ssl_alpn", "str" | "sub") => Some(OfHello::Protocols(values)),
        ("req.ssl_sni", "str") => {
            let names = values.iter().map(|value| Some(server_name(value).filter(|_| !value.contains('*'))?.0));
            names.collect::<Option<_>>().map(OfHello::Names)
        }
        ("req.ssl_sni" | "req.ssl_sni_end", "end") => {
            let mut names = Vec::new();
            for value in values {
                let (name, doubt) = server_name(&format!("*{}", Some(value).filter(|value| value.starts_with('.'))?))?;
                names.push(name);
                doubts.extend(doubt);
            }
            Some(OfHello::Names(names))
        }
        _ => None,
    }
}

fn term(asked: &[String], is_not: bool, is_counted: bool) -> Option<Term> {
    let (what, values) = asked.split_first()?;
    let what = what.split(['(', ',']).next().unwrap_or_default();
    if what == "src" {
        return Some(Term::Source { networks: networks(values)?, is_not });
    }
    let name = what.trim_start_matches("src_").trim_start_matches("sc0_").trim_start_matches("sc1_");
    let name = name.trim_start_matches("sc2_").trim_start_matches("sc_");
    let [operator, number] = values else { return None };
    // More than so many, this one included.
    let more_than = match operator.as_str() {
        "gt" => number.parse::<u32>().ok()?,
        "ge" => number.parse::<u32>().ok()?.checked_sub(1)?,
        _ => return None,
    };
    let allowed = if is_counted { more_than } else { more_than.checked_add(1)? };
    match name {
        "conn_cur" if !is_not && allowed > 0 => Some(Term::Sessions(allowed)),
        "conn_rate" if !is_not && allowed > 0 => Some(Term::Rate(allowed)),
        _ => None,
    }
}

fn networks(values: &[String]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut values = values.iter();
    while let Some(value) = values.next() {
        match value.as_str() {
            "-f" => found.push(format!("file:{}", values.next()?)),
            "--" | "-n" => {}
            flag if flag.starts_with('-') => return None,
            network => found.push(network.to_owned()),
        }
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, is_counted: bool) -> Option<Vec<Term>> {
        let acls = [
            ("bad", &["src 10.9.0.0/16 10.8.0.1"][..]),
            ("many", &["src_conn_cur ge 10"]),
            ("twice", &["src 10.1.0.0/16", "src 10.2.0.0/16"]),
        ];
        let line = |line: &&str| line.split(' ').map(str::to_owned).collect();
        let acls: Acls = acls.iter().map(|(name, of)| ((*name).to_owned(), of.iter().map(line).collect())).collect();
        terms(&text.split(' ').collect::<Vec<_>>(), &acls, is_counted).ok().map(|(terms, _)| terms)
    }

    #[test]
    fn a_condition_asks_for_networks_or_for_counts() {
        let source = |networks: &[&str], is_not| Term::Source {
            networks: networks.iter().map(|n| (*n).to_owned()).collect(),
            is_not,
        };
        for (text, is_counted, expected) in [
            ("if { src 10.0.0.0/8 }", false, Some(vec![source(&["10.0.0.0/8"], false)])),
            ("if !{ src -f ok.txt }", false, Some(vec![source(&["file:ok.txt"], true)])),
            ("unless { src 10.0.0.1 }", false, Some(vec![source(&["10.0.0.1"], true)])),
            ("if bad or many", false, Some(vec![source(&["10.9.0.0/16", "10.8.0.1"], false), Term::Sessions(10)])),
            ("if many", true, Some(vec![Term::Sessions(9)])),
            ("if twice", false, Some(vec![source(&["10.1.0.0/16", "10.2.0.0/16"], false)])),
            ("if !twice", false, Some(vec![source(&["10.1.0.0/16", "10.2.0.0/16"], true)])),
            ("unless ! { src 10.0.0.1 }", false, Some(vec![source(&["10.0.0.1"], false)])),
            ("if { sc0_conn_rate gt 20 }", true, Some(vec![Term::Rate(20)])),
            ("if { sc_conn_rate(0) gt 20 }", true, Some(vec![Term::Rate(20)])),
            ("if { req.ssl_sni -i a }", false, None),
            ("if bad many", false, None),
            ("if !bad or many", false, None),
            ("if unknown", false, None),
            ("if { src -i 10.0.0.0/8 }", false, None),
            ("if !{ src_conn_cur ge 10 }", false, None),
        ] {
            assert_eq!(read(text, is_counted), expected, "{text}");
        }
    }

    #[test]
    fn a_condition_asks_for_names_and_protocols_of_a_hello() {
        let acls =
            [("a", vec!["req_ssl_sni -i A.example", "req.ssl_sni b.example"]), ("tls", vec!["req.ssl_hello_type 1"])];
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let acls: Acls =
            acls.iter().map(|(name, of)| ((*name).to_owned(), of.iter().map(|line| words(line)).collect())).collect();
        let read = |text: &str| hellos(&text.split(' ').collect::<Vec<_>>(), &acls).ok();
        let hello = |names: &[&str], alpn: &[&str]| Hello {
            sni: if names.is_empty() { Sni::Any } else { Sni::Names(names.iter().map(|n| (*n).to_owned()).collect()) },
            alpn: alpn.iter().map(|n| (*n).to_owned()).collect(),
        };
        for (text, expected) in [
            ("if { req.ssl_sni -i a.example b.example }", Some(vec![hello(&["a.example", "b.example"], &[])])),
            ("if a", Some(vec![hello(&["a.example", "b.example"], &[])])),
            ("if tls a", Some(vec![hello(&["a.example", "b.example"], &[])])),
            ("if a { req.ssl_alpn h2 }", Some(vec![hello(&["a.example", "b.example"], &["h2"])])),
            (
                "if { req.ssl_sni x } || { req.ssl_alpn -m sub acme-tls/1 }",
                Some(vec![hello(&["x"], &[]), hello(&[], &["acme-tls/1"])]),
            ),
            ("if { req.ssl_sni,lower -m end .a.example }", Some(vec![hello(&["*.a.example"], &[])])),
            ("if { req.ssl_sni -m end a.example }", None),
            ("if { req.ssl_sni -m reg ^a }", None),
            ("if !a", None),
            ("unless a", None),
            ("if tls", None),
            ("if a { src 10.0.0.1 }", None),
            ("if nobody", None),
        ] {
            assert_eq!(read(text).map(|hellos| hellos.any_of), expected, "{text}");
        }
        for (text, expected) in
            [("if tls", Some(true)), ("if !tls", Some(false)), ("unless tls", Some(false)), ("if a", None)]
        {
            assert_eq!(
                is_tls(&text.split(' ').collect::<Vec<_>>(), &acls).map(|(is_tls, _)| is_tls),
                expected,
                "{text}"
            );
        }
    }
}
