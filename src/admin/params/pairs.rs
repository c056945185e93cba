//! The names and values that a request sent, decoded, and how serde fills an endpoint's parameters from them.

use std::fmt::{self, Display};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor, value::StrDeserializer};
use serde::forward_to_deserialize_any;
use warp::http::StatusCode;

use super::{Param, Params};
use crate::admin::reply::Refusal;
use crate::base::text::echo;

/// The only form of body that is read.
const FORM: &str = "application/x-www-form-urlencoded";

/// What a request sent: names and values, decoded, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::admin) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Reads the query and the body of a request.
    ///
    /// # Errors
    ///
    /// Names the parameter that is badly encoded, or the body's type.
    pub(in crate::admin) fn parse(query: &str, content_type: Option<&str>, body: &[u8]) -> Result<Self, Refusal> {
        let mut pairs = Self::default();
        pairs.decode(query.as_bytes())?;
        if !body.is_empty() {
            let kind = content_type.and_then(|text| text.split(';').next()).unwrap_or("").trim();
            if !kind.eq_ignore_ascii_case(FORM) {
                let msg = format!("body: cannot read type \"{}\"; expected {FORM}", echo(kind));
                return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", msg));
            }
            pairs.decode(body)?;
        }
        Ok(pairs)
    }

    /// The value as it was sent; `None` when it was not.
    pub(in crate::admin) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(sent, _)| *sent == name).map(|(_, value)| value.as_str())
    }

    /// Reads the parameters of one endpoint.
    ///
    /// # Errors
    ///
    /// Names the parameter that is unknown, repeated, empty, missing or unfit.
    pub(in crate::admin) fn read<P: Params>(&self) -> Result<P, Refusal> {
        let mut access = Access { pairs: &self.0, next: 0 };
        P::deserialize(de::value::MapAccessDeserializer::new(&mut access))
            .map_err(|wrong| wrong.into_refusal(P::PARAMS, access.last_name()))
    }

    fn decode(&mut self, encoded: &[u8]) -> Result<(), Refusal> {
        for pair in encoded.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = equals.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            let bad_encoding = || {
                let name = echo(&String::from_utf8_lossy(name));
                let msg = format!("{name}: is not percent-encoded UTF-8; expected %XX with two hex digits");
                Refusal::bad("bad_encoding", msg)
            };
            let decoded = decode(name).zip(decode(value)).ok_or_else(bad_encoding)?;
            self.0.push(decoded);
        }
        Ok(())
    }
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

/// Hands the pairs to serde, one after the other.
struct Access<'a> {
    pairs: &'a [(String, String)],
    next: usize,
}

impl<'a> Access<'a> {
    /// The name of the pair that was read last.
    fn last_name(&self) -> &'a str {
        self.next.checked_sub(1).map_or("", |last| &self.pairs[last].0)
    }
}

impl<'de> MapAccess<'de> for &mut Access<'de> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some((name, value)) = self.pairs.get(self.next) else { return Ok(None) };
        let is_repeated = self.pairs[..self.next].iter().any(|(before, _)| before == name);
        self.next += 1;
        // First of all whether the name is known.
        let key = seed.deserialize(StrDeserializer::new(name))?;
        match (is_repeated, value.is_empty()) {
            (true, _) => Err(Wrong::Repeated),
            (false, true) => Err(Wrong::Empty),
            (false, false) => Ok(Some(key)),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        seed.deserialize(Text(&self.pairs[self.next - 1].1))
    }
}

/// One value; an optional one is there.
struct Text<'a>(&'a str);

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What is wrong with the pair that was read last, or with all of them.
#[derive(Debug)]
enum Wrong {
    Unknown,
    Repeated,
    Empty,
    Missing(&'static str),
    Value(String),
}

impl Wrong {
    fn into_refusal(self, known: &'static [Param], last: &str) -> Refusal {
        let param = |name: &str| known.iter().find(|param| param.name == name);
        match self {
            Self::Unknown => {
                let names: Vec<&str> = known.iter().map(|param| param.name).collect();
                let expected = if names.is_empty() { "no parameters".to_owned() } else { names.join(", ") };
                Refusal::bad("unknown_parameter", format!("{}: unknown parameter; expected {expected}", echo(last)))
            }
            Self::Repeated => {
                Refusal::bad("repeated_parameter", format!("{last}: given more than once; expected one value"))
            }
            Self::Empty => Refusal::bad("empty_parameter", format!("{last}: has no value; expected {last}=…")),
            Self::Missing(name) => {
                let expected = param(name).map_or("a value", |param| param.expected);
                Refusal::bad("missing_parameter", format!("{name}: missing; expected {expected}"))
            }
            Self::Value(wrong) => {
                let code = param(last).map_or("bad_parameter", |param| param.code);
                Refusal::bad(code, format!("{last}: {wrong}"))
            }
        }
    }
}

impl std::error::Error for Wrong {}

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl de::Error for Wrong {
    fn custom<T: Display>(msg: T) -> Self {
        Self::Value(msg.to_string())
    }

    fn unknown_field(_name: &str, _known: &'static [&'static str]) -> Self {
        Self::Unknown
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }

    fn duplicate_field(_name: &'static str) -> Self {
        Self::Repeated
    }
}
