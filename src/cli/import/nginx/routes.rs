//! Servers that are chosen by a client's TLS hello: `ssl_preread` with a `map`.

use super::words::Directive;
use crate::cli::import::draft::{Note, Sni};
use crate::cli::import::tls::server_name;

/// Where clients go by what their hello says. The places are values of the map: names of upstreams, or addresses.
#[derive(Debug, Default)]
pub(super) struct Choice<'a> {
    /// Of the map.
    pub(super) line: usize,
    pub(super) by_name: Vec<(Sni, &'a str)>,
    /// Of hellos that no other line takes.
    pub(super) default: Option<&'a str>,
    /// Of clients that do not speak TLS.
    pub(super) plain: Option<&'a str>,
    pub(super) notes: Vec<Note>,
}

/// What the map for this variable chooses; `None` when there is none that asks for something in a hello.
pub(super) fn choice<'a>(all: &'a [Directive], variable: &str) -> Option<Choice<'a>> {
    let map = all.iter().find(|it| it.word(0) == "map" && it.word(2) == variable)?;
    let choice = match map.word(1) {
        "$ssl_preread_server_name" => by_name(map.inside()),
        "$ssl_preread_protocol" => by_protocol(map.inside()),
        _ => return None,
    };
    Some(Choice { line: map.line, ..choice })
}

fn by_name(lines: &[Directive]) -> Choice<'_> {
    let mut choice = Choice::default();
    let mut missing = None;
    for line in lines {
        let mut say = |why: String| choice.notes.push(Note::new(line.line, line.text(), why));
        match (line.word(0), line.word(1)) {
            ("hostnames", _) => {}
            ("default", to) => choice.default = Some(to),
            ("", to) => {
                missing = Some(to);
                choice.by_name.push((Sni::Missing, to));
            }
            (name, to) => {
                let both = name.strip_prefix('.').map(|parent| vec![parent.to_owned(), format!("*.{parent}")]);
                let names: Option<Vec<_>> =
                    both.unwrap_or_else(|| vec![name.to_owned()]).iter().map(|name| server_name(name)).collect();
                match names {
                    None => say("a route takes a name, or all names below one as *.example.com".to_owned()),
                    Some(names) => {
                        names.iter().filter_map(|(_, doubt)| doubt.clone()).for_each(say);
                        // Several lines for the same place are one route.
                        let names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
                        match choice.by_name.last_mut() {
                            Some((Sni::Names(known), place)) if *place == to => known.extend(names),
                            _ => choice.by_name.push((Sni::Names(names), to)),
                        }
                    }
                }
            }
        }
    }
    // To nginx, what is no TLS is a client without a name.
    choice.plain = missing.or(choice.default);
    choice
}

/// The version that a client offers, which is empty for one that does not speak TLS.
fn by_protocol(lines: &[Directive]) -> Choice<'_> {
    let mut choice = Choice::default();
    for line in lines {
        match (line.word(0), line.word(1)) {
            ("default", to) => choice.default = Some(to),
            ("", to) => choice.plain = Some(to),
            _ => {
                let why = "versions do not choose servers: such clients go where those of other versions go";
                choice.notes.push(Note::new(line.line, line.text(), why));
            }
        }
    }
    choice.plain = choice.plain.or(choice.default);
    choice
}
