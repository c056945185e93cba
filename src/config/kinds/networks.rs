//! Lists of networks that may name files with more of them, one a line.
//!
//! A file's content is part of the configuration: when it changes, the configuration is another. A list whose files
//! have the contents they had is not parsed again. While a file cannot be read, the list that is in force may stay; see
//! [`KnownLists`](crate::config::reader::KnownLists).

use std::net::IpAddr;

use ipnet::IpNet;
use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use super::plain::check_path;
use super::section::elements;
use crate::base::file::read_text;
use crate::base::text::echo;
use crate::config::key::{Describe, Kind, Style};
use crate::config::object::shown;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::limits::{AddressList, Networks};

/// Most elements of a list.
const ELEMENTS_MAX: usize = 1_024;
/// Most lines of a file.
const LINES_MAX: usize = 1_000_000;
/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 64 << 20;

const FILE: &str = "file:";

const EXPECTED: &str = "a network such as 10.0.0.0/8";

/// Networks, addresses and `file:PATH`.
pub(in crate::config) struct AddressListKind {
    /// A list that is there but names nobody is a mistake.
    names_somebody: bool,
}

/// A list of those who are kept out.
pub(in crate::config) const fn deny_list() -> AddressListKind {
    AddressListKind { names_somebody: false }
}

/// A list of those who are let in. With a file that is empty by mistake, nobody would be.
pub(in crate::config) const fn allow_list() -> AddressListKind {
    AddressListKind { names_somebody: true }
}

/// A mistake in a list: where, and what.
type Mistake = (Option<usize>, String);

impl AddressListKind {
    /// What the elements mean. `Err` holds the list's first mistakes, and whether only files are at fault.
    fn resolve(&self, reader: &Reader, written: &[String]) -> Result<AddressList, (Vec<Mistake>, bool)> {
        let (mut mistakes, mut is_in_files) = (Vec::new(), true);
        let (mut networks, mut texts, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        for (index, element) in written.iter().enumerate() {
            match element.strip_prefix(FILE) {
                Some(path) => match check_path(path).map(|()| read_text(&reader.folder.join(path), BYTES_MAX)) {
                    Ok(Ok(text)) => {
                        hashes.push(xxh3_64(text.as_bytes()));
                        texts.push((index, text));
                    }
                    Ok(Err(error)) => mistakes.push((Some(index), format!("{}: {error}", echo(element)))),
                    Err(no_path) => mistakes.push((Some(index), no_path)),
                },
                None => match network(element) {
                    Some(network) => networks.push(network),
                    None => {
                        is_in_files = false;
                        mistakes.push((Some(index), format!("\"{}\": expected {EXPECTED}", echo(element))));
                    }
                },
            }
        }
        let known = reader.known_lists.lists.get(written);
        let is_same = |known: &&AddressList| known.hashes() == hashes && !(self.names_somebody && known.means_nobody());
        if let Some(known) = known.filter(|known| mistakes.is_empty() && is_same(known)) {
            return Ok(known.clone());
        }
        for (index, text) in texts {
            if let Err(error) = lines(&text, &mut networks) {
                mistakes.push((Some(index), format!("{}: {error}", echo(&written[index]))));
            }
        }
        if mistakes.is_empty() && networks.is_empty() && !written.is_empty() && self.names_somebody {
            mistakes.push((None, "nobody is let in: the files are empty; expected at least one network".to_owned()));
        }
        match mistakes.is_empty() {
            true => Ok(AddressList::new(written.to_vec(), hashes, Networks::new(networks))),
            false => Err((mistakes, is_in_files)),
        }
    }
}

impl Describe for AddressListKind {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "array", "maxItems": ELEMENTS_MAX, "items": { "type": "string" } })
    }

    fn expected(&self) -> String {
        "a list of networks, addresses and file:PATH".to_owned()
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for AddressListKind {
    type Value = AddressList;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<AddressList> {
        let list = elements(reader, place, value, ELEMENTS_MAX)?;
        let is_text = |value: &&Value| value.as_string_lit().is_some();
        for (index, value) in list.iter().enumerate().filter(|(_, value)| !is_text(value)) {
            let message = format!("{}: expected {EXPECTED}", shown(value));
            reader.problems.add(value.start(), Place::Index(place, index), message);
        }
        // What is no text is an element as well, so that each has its place.
        let text = |value: &Value| value.as_string_lit().map_or_else(String::new, |text| text.value.to_string());
        let written: Vec<String> = list.iter().map(text).collect();
        let files = written.iter().filter_map(|element| element.strip_prefix(FILE));
        let files: Vec<_> = files.map(|path| reader.folder.join(path)).collect();
        reader.other_files.extend(files);
        let (mut mistakes, is_in_files) = match self.resolve(reader, &written) {
            Ok(list) => return Some(list),
            Err(mistakes) => mistakes,
        };
        mistakes.retain(|(index, _)| index.is_none_or(|index| is_text(&&list[index])));
        let path = |index: &Option<usize>| match index {
            Some(index) => Place::Index(place, *index).to_string(),
            None => place.to_string(),
        };
        if is_in_files
            && reader.known_lists.may_stay
            && let Some(known) = reader.known_lists.lists.get(&written)
        {
            reader.kept_lists.extend(mistakes.iter().map(|(index, mistake)| format!("{}: {mistake}", path(index))));
            return Some(known.clone());
        }
        for (index, mistake) in mistakes {
            let offset = index.map_or(value.start(), |index| list[index].start());
            reader.problems.add(offset, path(&index), mistake);
        }
        None
    }

    fn write(&self, value: &AddressList, _: &Style) -> String {
        let elements: Vec<String> = value.written().iter().map(|element| quoted(element)).collect();
        format!("[{}]", elements.join(", "))
    }
}

fn network(text: &str) -> Option<IpNet> {
    // Most are networks, and a single address is none.
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Adds the networks of a file, one a line. What follows a `#` is a comment.
fn lines(text: &str, networks: &mut Vec<IpNet>) -> Result<(), String> {
    for (number, line) in text.lines().enumerate() {
        if number == LINES_MAX {
            return Err(format!("too many lines; expected at most {LINES_MAX}"));
        }
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let found = network(line);
            let wrong = || format!("line {}: \"{}\": expected a network", number + 1, echo(line));
            networks.push(found.ok_or_else(wrong)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_lines(text: &str) -> Result<Vec<String>, String> {
        let mut networks = Vec::new();
        lines(text, &mut networks).map(|()| networks.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_has_a_network_a_line_and_comments() {
        assert_eq!(
            read_lines("# blocked\r\n10.0.0.0/8\r\n\n  192.0.2.1 # one\n2001:db8::/32").unwrap(),
            ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]
        );
        assert_eq!(read_lines("10.0.0.0/8\n\nfoo\nbar").unwrap_err(), "line 3: \"foo\": expected a network");
        assert_eq!(read_lines("10.0.0.0/33").unwrap_err(), "line 1: \"10.0.0.0/33\": expected a network");
        assert!(read_lines("").unwrap().is_empty());
        assert!(read_lines(&"\n".repeat(LINES_MAX)).is_ok());
        assert!(read_lines(&"\n".repeat(LINES_MAX + 1)).unwrap_err().starts_with("too many lines"));
    }
}
