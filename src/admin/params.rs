//! The parameters of a request, read from the query and from a form body.
//!
//! An endpoint declares a struct with `params!`: each parameter is named once, with its type and its
//! documentation, and serde fills the struct. Strict on purpose, because an operator's typo must not be taken
//! for a default: a parameter that is unknown, repeated, empty or badly encoded is refused by name, with what
//! was expected. No input panics.

use std::fmt::{self, Display};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor, value::StrDeserializer};
use serde::forward_to_deserialize_any;
use warp::http::StatusCode;

use super::reply::Refusal;
use crate::base::text::echo;

/// The only form of body that is read.
const FORM: &str = "application/x-www-form-urlencoded";

/// One parameter of an endpoint, for error texts and documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    /// What may be written.
    pub(super) expected: &'static str,
    pub(super) is_required: bool,
    /// The code of a refusal for a value that cannot be used.
    code: &'static str,
}

/// A type that one parameter can have.
pub(super) trait Value: Sized {
    /// What may be written.
    const EXPECTED: &'static str;
    /// False for what may be left out.
    const IS_REQUIRED: bool = true;
    /// The code of a refusal for a value that cannot be used.
    const CODE: &'static str = "bad_parameter";

    /// Reads the text as it was sent.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without the parameter's name and without repeating long input.
    fn read(text: &str) -> Result<Self, String>;
}

impl<T: Value> Value for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const IS_REQUIRED: bool = false;
    const CODE: &'static str = T::CODE;

    fn read(text: &str) -> Result<Self, String> {
        T::read(text).map(Some)
    }
}

/// All parameters of an endpoint.
pub(super) trait Params: de::DeserializeOwned {
    /// In the order in which they are documented.
    const PARAMS: &'static [Param];
}

/// Declares the parameters of an endpoint: a struct that serde fills, and [`Params::PARAMS`].
macro_rules! params {
    ($(#[$meta:meta])* struct $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $($(#[doc = $doc])+ $field: $type,)*
        }

        impl $crate::admin::params::Params for $name {
            const PARAMS: &'static [$crate::admin::params::Param] = &[$(
                $crate::admin::params::Param::new::<$type>(stringify!($field), concat!($($doc),+)),
            )*];
        }
    };
}

/// Has serde read a [`Value`] from its text.
macro_rules! deserialize_values {
    ($($type:ty),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                $crate::admin::params::Value::read(&text).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

pub(super) use {deserialize_values, params};

params! {
    /// For endpoints without parameters.
    struct NoParams {}
}

impl Param {
    pub(super) const fn new<T: Value>(name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, expected: T::EXPECTED, is_required: T::IS_REQUIRED, code: T::CODE }
    }
}

/// What a request sent: names and values, decoded, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Reads the query and the body of a request.
    ///
    /// # Errors
    ///
    /// Names the parameter that is badly encoded, or the body's type.
    pub(super) fn parse(query: &str, content_type: Option<&str>, body: &[u8]) -> Result<Self, Refusal> {
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
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(sent, _)| *sent == name).map(|(_, value)| value.as_str())
    }

    /// Reads the parameters of one endpoint.
    ///
    /// # Errors
    ///
    /// Names the parameter that is unknown, repeated, empty, missing or unfit.
    pub(super) fn read<P: Params>(&self) -> Result<P, Refusal> {
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

/// Reads a word that is one of few, or a number in a range, by `read`.
pub(super) fn word<T>(text: &str, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
    read(text).ok_or_else(|| format!("cannot use \"{}\"; expected {expected}", echo(text)))
}

/// Reads a decimal number without a sign.
pub(super) fn number(text: &str, min: u64, max: u64, expected: &str) -> Result<u64, String> {
    word(text, expected, |text| {
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| is_decimal && (min..=max).contains(number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Digit(u64);
    #[derive(Debug, PartialEq)]
    struct Word(String);

    impl Value for Digit {
        const EXPECTED: &'static str = "a digit";
        const CODE: &'static str = "not_a_digit";

        fn read(text: &str) -> Result<Self, String> {
            number(text, 0, 9, Self::EXPECTED).map(Self)
        }
    }

    impl Value for Word {
        const EXPECTED: &'static str = "anything";

        fn read(text: &str) -> Result<Self, String> {
            Ok(Self(text.to_owned()))
        }
    }

    deserialize_values!(Digit, Word);

    params! {
        struct Two {
            /// How many,
            /// and no more.
            digit: Digit,
            /// What.
            word: Option<Word>,
        }
    }

    fn two(query: &str) -> Result<Two, Refusal> {
        Pairs::parse(query, None, b"").and_then(|pairs| pairs.read())
    }

    #[test]
    fn a_parameter_is_declared_once_with_its_documentation() {
        let [digit, word] = Two::PARAMS else { panic!("two of them") };
        assert_eq!((digit.name, digit.doc, digit.is_required), ("digit", " How many, and no more.", true));
        assert_eq!((word.name, word.expected, word.is_required), ("word", "anything", false));
        let read = two("word=a+b%21&digit=7").unwrap();
        assert_eq!((read.digit, read.word), (Digit(7), Some(Word("a b!".to_owned()))));
        assert_eq!(two("digit=0").unwrap().word, None);
    }

    #[test]
    fn query_and_form_are_one_set_of_parameters() {
        let form = Some("Application/X-WWW-Form-Urlencoded; charset=utf-8");
        let read: Two = Pairs::parse("digit=8", form, b"word=%5B").unwrap().read().unwrap();
        assert_eq!((read.digit, read.word), (Digit(8), Some(Word("[".to_owned()))));
        let twice = Pairs::parse("digit=1", form, b"digit=1").unwrap().read::<Two>().unwrap_err();
        assert_eq!(
            (twice.code, twice.msg.as_str()),
            ("repeated_parameter", "digit: given more than once; expected one value")
        );
    }

    #[test]
    fn a_body_of_another_type_is_refused() {
        for kind in [None, Some("application/json"), Some("text/plain"), Some("")] {
            let refusal = Pairs::parse("", kind, b"group=1").unwrap_err();
            assert_eq!(refusal.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind:?}");
        }
        assert!(Pairs::parse("", Some("application/json"), b"").is_ok(), "an empty body has no type");
    }

    #[test]
    fn each_kind_of_wrong_parameter_is_named() {
        let refusal = |query: &str| two(query).map(drop).map_err(|refusal| (refusal.code, refusal.msg)).unwrap_err();
        let is = |query: &str, code: &'static str, msg: &str| assert_eq!(refusal(query), (code, msg.to_owned()));
        is("digit=1&wort=2", "unknown_parameter", "wort: unknown parameter; expected digit, word");
        is("digit=1&wort", "unknown_parameter", "wort: unknown parameter; expected digit, word");
        is("=1", "unknown_parameter", ": unknown parameter; expected digit, word");
        is("digit=", "empty_parameter", "digit: has no value; expected digit=…");
        is("digit", "empty_parameter", "digit: has no value; expected digit=…");
        is("digit=1&digit=", "repeated_parameter", "digit: given more than once; expected one value");
        is("word=a", "missing_parameter", "digit: missing; expected a digit");
        is("digit=10", "not_a_digit", "digit: cannot use \"10\"; expected a digit");
        is("digit=x&word=", "not_a_digit", "digit: cannot use \"x\"; expected a digit");
        for query in ["digit=%", "digit=%1", "digit=%zz", "digit=%ff", "%ff=1", "digit=%+1"] {
            assert_eq!(refusal(query).0, "bad_encoding", "{query}");
        }
        let none = Pairs::parse("a=1", None, b"").unwrap().read::<NoParams>().unwrap_err();
        assert_eq!(none.msg, "a: unknown parameter; expected no parameters");
    }

    #[test]
    fn no_answer_repeats_long_input() {
        let long = "x".repeat(10_000);
        for query in [format!("digit={long}"), format!("{long}=1"), long.clone(), format!("{long}%")] {
            let refusal = two(&query).unwrap_err();
            assert!(!refusal.msg.contains(&long[..65]), "{}", refusal.msg);
        }
        let refusal = Pairs::parse("", Some(&long), b"a").unwrap_err();
        assert!(!refusal.msg.contains(&long[..65]), "{}", refusal.msg);
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(query in "\\PC{0,60}|[a-z=&%+0-9]{0,40}", body: Vec<u8>, form: bool) {
            let kind = form.then_some("application/x-www-form-urlencoded");
            if let Ok(pairs) = Pairs::parse(&query, kind, &body) {
                let _ = pairs.read::<Two>();
            }
        }

        /// Whatever a client encodes is what the endpoint sees.
        #[test]
        fn an_encoded_value_is_read_back(value in "\\PC{1,30}") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let pairs = Pairs::parse(&format!("word={encoded}"), None, b"").unwrap();
            proptest::prop_assert_eq!(pairs.text("word"), Some(value.as_str()));
        }
    }
}
