//! The parameters of a request, read from the query and from a form body.
//!
//! An endpoint declares a struct with `params!`: each parameter is named once, with its type and its
//! documentation, and serde fills the struct. Strict on purpose, because an operator's typo must not be taken
//! for a default: a parameter that is unknown, repeated, empty or badly encoded is refused by name, with what
//! was expected. No input panics.

mod pairs;

use serde::de;

pub(super) use pairs::Pairs;

use crate::base::text::echo;

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
mod tests;
