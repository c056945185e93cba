//! Rules: who is let in, and who goes to which backend.

use super::Import;
use crate::cli::import::draft::Note;
use crate::cli::import::haproxy::condition::{Hello, Hellos, Term, hellos, is_tls, terms};
use crate::cli::import::haproxy::words::{Directive, time};

/// Why rules that look at what a client sends are not taken over.
const UNSEEN: &str = "what a client says is not looked at: its bytes go to the server as they are";
/// Why rules to choose servers are not taken over.
const UNCHOSEN: &str = "servers are not chosen by what a client says: a group with an address of its own does that";

/// A rule that chooses a backend by a hello.
#[derive(Debug)]
pub(in crate::cli::import::haproxy) struct HelloRule {
    pub(in crate::cli::import::haproxy) line: Note,
    pub(in crate::cli::import::haproxy) any_of: Vec<Hello>,
    pub(in crate::cli::import::haproxy) backend: String,
}

impl Import {
    pub(super) fn use_backend(&mut self, line: &Directive) -> Result<(), String> {
        let Hellos { any_of, named, doubts } = match hellos(&line.rest(2), &self.acls) {
            Ok(found) => found,
            Err(why) => {
                let asks = line.words.iter().any(|word| word.contains("ssl_sni") || word.contains("ssl_alpn"));
                return Err(if asks { why } else { UNCHOSEN.to_owned() });
            }
        };
        self.uses(&named);
        let note = |why: String| Note::new(line.line, line.text.clone(), why);
        self.group.notes.extend(doubts.into_iter().map(note));
        self.hellos.push(HelloRule { line: note(String::new()), any_of, backend: line.word(1).to_owned() });
        Ok(())
    }

    /// Notes that a rule uses these conditions.
    fn uses(&mut self, named: &[String]) {
        self.used_acls.extend(named.iter().cloned());
    }

    /// Reads `tcp-request …`.
    pub(super) fn rule(&mut self, line: &Directive) -> Result<(), String> {
        let words = line.rest(1);
        match words[..] {
            ["connection", track, "src", ..] if track.starts_with("track-sc") && line.words.len() == 4 => {
                self.is_tracked = true;
                Ok(())
            }
            ["connection", "expect-proxy", "layer4"] => {
                self.accepts_from_all();
                Err("accept_proxy.from lets everybody claim any address: name the proxies in front".to_owned())
            }
            ["connection", "expect-proxy", "layer4", ref condition @ ..] => {
                let (terms, named) = terms(condition, &self.acls, self.is_tracked)?;
                for term in terms {
                    let Term::Source { networks, is_not: false } = term else {
                        return Err("only networks have an equivalent".to_owned());
                    };
                    self.proxies.extend(networks);
                }
                self.uses(&named);
                Ok(())
            }
            ["connection", "reject", ref condition @ ..] => {
                let (terms, named) = terms(condition, &self.acls, self.is_tracked)?;
                for term in terms {
                    match term {
                        Term::Source { networks, is_not: true } => self.allow.extend(networks),
                        Term::Source { networks, is_not: false } => self.deny.extend(networks),
                        Term::Sessions(most) => self.client_sessions = Some(most),
                        Term::Rate(most) => self.client_rate = Some(most),
                    }
                }
                self.uses(&named);
                Ok(())
            }
            ["inspect-delay", delay] => {
                self.hello_ms = time(delay);
                self.waits_for_hello(line)
            }
            ["content", "reject"] => {
                self.needs_tls = true;
                self.waits_for_hello(line)
            }
            ["content", action @ ("accept" | "reject"), ref condition @ ..] => match is_tls(condition, &self.acls) {
                Some((asks_for_tls, named)) if asks_for_tls == (action == "accept") => {
                    self.needs_tls |= action == "reject";
                    self.uses(&named);
                    self.waits_for_hello(line)
                }
                _ => Err(UNSEEN.to_owned()),
            },
            ["content" | "inspect-delay" | "session", ..] => Err(UNSEEN.to_owned()),
            _ => Err("only reject by the client's address and counts has an equivalent".to_owned()),
        }
    }

    /// Keeps a line that means something only where hellos choose the backend.
    fn waits_for_hello(&mut self, line: &Directive) -> Result<(), String> {
        self.waits.push(Note::new(line.line, line.text.clone(), UNSEEN));
        Ok(())
    }
}

/// Reads `stick-table …`: what it stores is counted here only for rules that have an equivalent.
pub(super) fn stick_table(line: &Directive) -> Result<(), String> {
    let stored = line.words.iter().skip_while(|word| *word != "store").skip(1);
    let mut counts = stored.flat_map(|word| word.split(','));
    match counts.all(|count| count == "conn_cur" || count.starts_with("conn_rate(")) {
        true => Ok(()),
        false => Err("of what a table stores, only conn_cur and conn_rate have an equivalent".to_owned()),
    }
}
