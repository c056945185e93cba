//! Reading one value of the file: what it may be, and what to say when it is not.
//!
//! Each function takes the key, for its bounds, and the value as parsed; the error is the message of a
//! problem, *what is wrong with which value; what was expected*.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use jsonc_parser::ast::Value;

use super::keys::{Key, LABEL_LEN_MAX, LABELS_MAX, Shape};
use super::problem::{did_you_mean, shortened};
use super::schema::range;
use super::units;
use super::{AdminListen, Secret};
use crate::policy::built_in::BUILT_IN;
use crate::policy::spec::{MODULE_PREFIX, PolicySpec, is_module_name};
use crate::server::ServerAddr;

/// Longest path of a unix socket that the kernel takes, in bytes.
const UNIX_PATH_LEN_MAX: usize = 107;

/// The value as a message shows it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::StringLit(text) => format!("\"{}\"", shortened(&text.value)),
        Value::NumberLit(number) => shortened(number.value),
        Value::BooleanLit(switch) => switch.value.to_string(),
        Value::NullKeyword(_) => "null".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
    }
}

fn no(value: &Value, what: &str, expected: &str) -> String {
    format!("{} is no {what}; expected {expected}", shown(value))
}

pub(super) fn switch(_: &Key, value: &Value) -> Result<bool, String> {
    let switch = value.as_boolean_lit().ok_or_else(|| no(value, "switch", "true or false"))?;
    Ok(switch.value)
}

pub(super) fn whole(key: &Key, value: &Value) -> Result<u64, String> {
    let Shape::Whole(min, max) = key.shape else { unreachable!("{} is read as the table says", key.name) };
    let expected = format!("a whole number of {min} to {max}");
    let number = value.as_number_lit().ok_or_else(|| no(value, "number", &expected))?;
    match number.value.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Err(_) if number.value.contains(['.', 'e', 'E']) => Err(no(value, "whole number", &expected)),
        _ => Err(format!("{} is out of range; expected {expected}", shown(value))),
    }
}

pub(super) fn whole_u32(key: &Key, value: &Value) -> Result<u32, String> {
    whole(key, value).map(|number| u32::try_from(number).expect("the table bounds it"))
}

pub(super) fn time(key: &Key, value: &Value) -> Result<Duration, String> {
    let Shape::Time(may_be_zero, min, max) = key.shape else { unreachable!("{} is read as the table says", key.name) };
    if let Value::NumberLit(number) = value {
        let number = shortened(number.value);
        return Err(format!("{number} has no unit; expected a time such as \"{number}s\" or \"{number}ms\""));
    }
    let text = text_of(value, "time", "a number with a unit, such as \"2.5s\"")?;
    let time = units::time(text).ok_or_else(|| match text.parse::<f64>() {
        Ok(_) => format!("{} has no unit; expected a time such as \"{text}s\" or \"{text}ms\"", shown(value)),
        Err(_) => no(value, "time", "a number with a unit (ms, s, m, h, d), such as \"2.5s\""),
    })?;
    let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
    if (may_be_zero && time.is_zero()) || (min..=max).contains(&time) {
        return Ok(time);
    }
    let zero = if may_be_zero { "0s, or " } else { "" };
    let (min, max) = (units::time_text(min), units::time_text(max));
    Err(format!("{} is out of range; expected {zero}{min} to {max}", shown(value)))
}

pub(super) fn size(key: &Key, value: &Value) -> Result<u64, String> {
    let Shape::Size(min, max) = key.shape else { unreachable!("{} is read as the table says", key.name) };
    let expected = "a whole number with a unit (B, KiB, MiB, GiB), such as \"64KiB\"";
    if let Value::NumberLit(_) = value {
        return Err(format!("{} has no unit; expected {expected}", shown(value)));
    }
    let size = units::size(text_of(value, "size", expected)?).ok_or_else(|| no(value, "size", expected))?;
    if (min..=max).contains(&size) {
        return Ok(size);
    }
    let (min, max) = (units::size_text(min), units::size_text(max));
    Err(format!("{} is out of range; expected {min} to {max}", shown(value)))
}

pub(super) fn word(key: &Key, value: &Value) -> Result<&'static str, String> {
    let Shape::Word(words) = key.shape else { unreachable!("{} is read as the table says", key.name) };
    let expected = || words.join(", ");
    let text = text_of(value, "word", &expected())?;
    words.iter().copied().find(|word| *word == text).ok_or_else(|| {
        let near = did_you_mean(text, words.iter().copied());
        format!("unknown {} {}; expected {}{near}", key.name, shown(value), expected())
    })
}

pub(super) fn text(_: &Key, value: &Value) -> Result<String, String> {
    Ok(text_of(value, "text", "a string")?.to_owned())
}

/// A policy by its name.
pub(super) fn policy(key: &Key, value: &Value) -> Result<PolicySpec, String> {
    let Shape::Policy(keys) = key.shape else { unreachable!("{} is read as the table says", key.name) };
    let object = if keys.is_empty() { "" } else { ", or an object for a module" };
    let text = text_of(value, "policy", &format!("the name of one, such as \"round_robin\"{object}"))?;
    PolicySpec::parse(text).map_err(|error| match text.strip_prefix(MODULE_PREFIX) {
        Some(_) => no(value, "policy", &format!("{MODULE_PREFIX}NAME, NAME being {}", range(Shape::Module))),
        None => format!("{error}{}", did_you_mean(text, BUILT_IN)),
    })
}

/// The name of a module.
pub(super) fn module(key: &Key, value: &Value) -> Result<String, String> {
    let text = text_of(value, "name of a module", &range(key.shape))?;
    match is_module_name(text) {
        true => Ok(text.to_owned()),
        false => Err(no(value, "name of a module", &range(key.shape))),
    }
}

pub(super) fn sha256(key: &Key, value: &Value) -> Result<[u8; 32], String> {
    let text = text_of(value, "SHA-256", &range(key.shape))?;
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(no(value, "SHA-256", &range(key.shape)));
    }
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("two hex digits are a byte");
    Ok(std::array::from_fn(byte))
}

pub(super) fn socket(_: &Key, value: &Value) -> Result<SocketAddr, String> {
    listen_address(value, "ip:port, such as \"127.0.0.1:8081\"")
}

pub(super) fn socket_or_unix(_: &Key, value: &Value) -> Result<AdminListen, String> {
    let Some(path) = value.as_string_lit().and_then(|text| text.value.strip_prefix("unix:")) else {
        return listen_address(value, "ip:port, such as \"127.0.0.1:8080\", or unix:/PATH").map(AdminListen::Tcp);
    };
    if !path.starts_with('/') || path.contains('\0') {
        return Err(no(value, "usable socket", "unix: and an absolute path"));
    }
    if path.len() > UNIX_PATH_LEN_MAX {
        return Err(no(value, "usable socket", &format!("a path of at most {UNIX_PATH_LEN_MAX} bytes")));
    }
    Ok(AdminListen::Unix(PathBuf::from(path)))
}

pub(super) fn network(value: &Value) -> Result<IpNet, String> {
    let text = value.as_string_lit().map_or("", |text| &text.value);
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse::<IpNet>().ok().or_else(address);
    network.ok_or_else(|| no(value, "network", "ip/bits or ip, such as \"10.0.0.0/8\""))
}

pub(super) fn server(_: &Key, value: &Value) -> Result<ServerAddr, String> {
    text_of(value, "server address", "host:port, ip:port or [ipv6]:port")?.parse().map_err(|error| format!("{error}"))
}

/// One label of a server.
pub(super) fn label(name: &str, value: &Value) -> Result<String, String> {
    let text = value.as_string_lit().ok_or_else(|| no(value, "text", "a string"))?;
    check_label(name, &text.value)?;
    Ok(text.value.clone().into_owned())
}

/// What is wrong with labels wherever they come from.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    check_labels_len(labels.len())?;
    labels.iter().try_for_each(|(name, text)| check_label(name, text))
}

pub(super) fn check_labels_len(len: usize) -> Result<(), String> {
    match len {
        0..=LABELS_MAX => Ok(()),
        _ => Err(format!("{len} labels are too many; expected at most {LABELS_MAX}")),
    }
}

fn check_label(name: &str, text: &str) -> Result<(), String> {
    let len = name.len().max(text.len());
    match (name.len(), len) {
        (0, _) => Err("a label has no name; expected at least one character".to_owned()),
        (_, 0..=LABEL_LEN_MAX) => Ok(()),
        _ => Err(format!("a label of {len} bytes is too long; expected at most {LABEL_LEN_MAX} in name and value")),
    }
}

/// A secret; unlike the others it never shows the value.
pub(super) fn secret(value: &Value, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Secret, String> {
    let written = value.as_string_lit().ok_or("this is no token; expected a string, env:NAME or file:PATH")?;
    Secret::resolve(&written.value, folder, env)
}

fn listen_address(value: &Value, expected: &str) -> Result<SocketAddr, String> {
    let text = text_of(value, "address to listen on", expected)?;
    let socket = text.parse::<SocketAddr>().map_err(|_| no(value, "address to listen on", expected))?;
    match socket.port() {
        0 => Err(format!("{} has port 0; expected a port of 1 to 65535", shown(value))),
        _ => Ok(socket),
    }
}

fn text_of<'v>(value: &'v Value, what: &str, expected: &str) -> Result<&'v str, String> {
    match value.as_string_lit() {
        Some(text) if text.value.is_empty() => Err(format!("the text is empty; expected {expected}")),
        Some(text) => Ok(&text.value),
        None => Err(no(value, what, expected)),
    }
}
