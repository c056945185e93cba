//! Conditions of rules: those by the client's address, and by its counts.

use std::collections::BTreeMap;

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

/// Named conditions.
pub(super) type Acls = BTreeMap<String, Vec<String>>;

/// Reads what follows on the action of a rule: `if …` or `unless …`, terms of which one has to hold. `is_counted` is true
/// where the session in question is counted already. Also names the conditions that it uses.
///
/// # Errors
///
/// It asks for something else.
pub(super) fn terms(words: &[&str], acls: &Acls, is_counted: bool) -> Result<(Vec<Term>, Vec<String>), String> {
    let other = || "only conditions by the client's address and counts have an equivalent".to_owned();
    let (is_unless, words) = match words {
        ["if", rest @ ..] => (false, rest),
        ["unless", rest @ ..] => (true, rest),
        _ => return Err(other()),
    };
    let (mut found, mut named) = (Vec::new(), Vec::new());
    let parts: Vec<&[&str]> = words.split(|word| ["or", "||"].contains(word)).collect();
    if is_unless && parts.len() > 1 {
        return Err(other());
    }
    for part in parts {
        let (is_not, asked): (bool, Vec<String>) = match part {
            ["{", inner @ .., "}"] => (false, inner.iter().map(|word| (*word).to_owned()).collect()),
            ["!{", inner @ .., "}"] | ["!", "{", inner @ .., "}"] => {
                (true, inner.iter().map(|word| (*word).to_owned()).collect())
            }
            [name] => {
                let plain = name.trim_start_matches('!');
                named.push(plain.to_owned());
                (plain.len() < name.len(), acls.get(plain).cloned().ok_or_else(other)?)
            }
            _ => return Err(other()),
        };
        found.push(term(&asked, is_not != is_unless, is_counted).ok_or_else(other)?);
    }
    // Both together would have to hold at once.
    let is_list = found.iter().any(|term| matches!(term, Term::Source { is_not: true, .. }));
    if is_list && found.len() > 1 {
        return Err(other());
    }
    Ok((found, named))
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
        let acls = [("bad", "src 10.9.0.0/16 10.8.0.1"), ("many", "src_conn_cur ge 10")];
        let acls: Acls =
            acls.iter().map(|(name, of)| ((*name).to_owned(), of.split(' ').map(str::to_owned).collect())).collect();
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
}
