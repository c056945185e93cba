//! The declaration of a key: the macro [`settings!`].
//!
//! A declaration binds a key's name, the kind of its value, its default, when a change takes effect, its documentation
//! and its field. Reading, writing, comparing, the schema and `docs/configuration.md` follow from it; there is no other
//! list of keys.

use super::key::{Change, Style, Table};
use super::object::Object;
use super::reader::Reader;

/// A struct of which each field is a key of an object. Implemented by [`settings!`].
pub(super) trait Fields: Clone + PartialEq + 'static {
    /// The keys.
    const TABLE: Table;

    /// Reads all keys of `object`. A key that is missing or wrong takes the value of `base`, or else its default.
    /// `None` when a required key is missing or wrong.
    fn read(reader: &mut Reader, object: &Object, base: Option<&Self>) -> Option<Self>;

    /// The values of all keys as JSON, in order.
    fn write(&self, style: &Style) -> Vec<(&'static str, String)>;

    /// The keys whose values differ from those of `other`, with their values as JSON.
    fn differing(&self, other: &Self, style: &Style) -> Vec<(&'static str, String)>;

    /// Adds the keys that differ from those of `old`; `path` stands before their names.
    fn changes(&self, old: &Self, path: &str, found: &mut Vec<Change>);
}

/// Declares the keys of an object and the fields that they fill.
///
/// ```text
/// settings! {
///     /// What the struct is.
///     pub struct LogSettings {
///         /// What the key means, in whole sentences.
///         status_interval: Duration as time_or_zero(100, YEAR_MS) => Duration::from_secs(5), AtOnce;
///     }
/// }
/// ```
///
/// reads: the key `status_interval` fills a field of type `Duration`; its value is a time within bounds; without
/// one it is 5 s; a change takes effect at once. A key without `=>` is required, or means what its kind says.
/// A name that no field can have stands in brackets: `schema("$schema")`. `[own VALUE]` marks a key of a group that
/// `defaults` does not take; there the field is VALUE. With `impl` in the place of `pub struct`, and without the
/// types, the struct is declared where it is used.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $of:ident {
            $(
                $(#[doc = $doc:literal])+
                $([own $blank:expr])? $field:ident $(($name:literal))? : $type:ty as $kind:expr $(=> $default:expr)?, $effect:ident;
            )+
            $( beside: $( $(#[doc = $about:literal])+ $beside:ident : $other:ty = $init:expr; )+ )?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $of {
            $( $(#[doc = $doc])+ $vis $field: $type, )+
            $( $( $(#[doc = $about])+ $vis $beside: $other, )+ )?
        }
        settings! { @impl $of
            { $( [$($doc)+] [$($blank)?] $field [$($name)?] [$kind] [$($default)?] $effect )+ }
            { $( $( $beside = $init; )+ )? }
        }
    };
    (
        impl $of:ident {
            $(
                $(#[doc = $doc:literal])+
                $([own $blank:expr])? $field:ident $(($name:literal))? as $kind:expr $(=> $default:expr)?, $effect:ident;
            )+
            $( beside: $( $beside:ident = $init:expr; )+ )?
        }
    ) => {
        settings! { @impl $of
            { $( [$($doc)+] [$($blank)?] $field [$($name)?] [$kind] [$($default)?] $effect )+ }
            { $( $( $beside = $init; )+ )? }
        }
    };
    (
        @impl $of:ident
        { $( [$($doc:literal)+] [$($blank:expr)?] $field:ident [$($name:literal)?] [$kind:expr] [$($default:expr)?] $effect:ident )+ }
        { $( $beside:ident = $init:expr; )* }
    ) => {
        impl $crate::config::declare::Fields for $of {
            const TABLE: $crate::config::key::Table = &[&[
                $( $crate::config::key::Key {
                    name: settings!(@name $field $($name)?),
                    kind: &$kind,
                    effect: $crate::config::key::Effect::$effect,
                    is_own: settings!(@is_own $($blank)?),
                    doc: concat!($($doc),+),
                    declared_default: || settings!(@default_text $kind; $($default)?),
                }, )+
            ]];

            fn read(
                reader: &mut $crate::config::reader::Reader,
                object: &$crate::config::object::Object,
                base: Option<&Self>,
            ) -> Option<Self> {
                $(
                    let $field = settings!(@read object;
                        object.field(
                            reader,
                            settings!(@name $field $($name)?),
                            &$kind,
                            settings!(@base base, $field; $($blank)?),
                            || settings!(@option $($default)?),
                        );
                        $($blank)?);
                )+
                Some(Self { $( $field: $field?, )+ $( $beside: $init, )* })
            }

            fn write(&self, style: &$crate::config::key::Style) -> Vec<(&'static str, String)> {
                vec![ $( (settings!(@name $field $($name)?), $crate::config::key::Kind::write(&$kind, &self.$field, style)) ),+ ]
            }

            fn differing(&self, other: &Self, style: &$crate::config::key::Style) -> Vec<(&'static str, String)> {
                let mut found = Vec::new();
                $(
                    if self.$field != other.$field {
                        let value = $crate::config::key::Kind::write(&$kind, &self.$field, style);
                        found.push((settings!(@name $field $($name)?), value));
                    }
                )+
                found
            }

            fn changes(&self, old: &Self, path: &str, found: &mut Vec<$crate::config::key::Change>) {
                $(
                    let name = format!("{path}{}", settings!(@name $field $($name)?));
                    let key = (&*name, $crate::config::key::Effect::$effect);
                    $crate::config::key::Kind::changes(&$kind, key, &old.$field, &self.$field, found);
                )+
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
    // A key of one group is never taken from `defaults`.
    (@base $base:ident, $field:ident;) => { $base.map(|base| base.$field.clone()) };
    (@base $base:ident, $field:ident; $blank:expr) => { None };
    (@is_own) => { false };
    (@is_own $blank:expr) => { true };
    (@option) => { None };
    (@option $default:expr) => { Some($default) };
    (@default_text $kind:expr;) => { None };
    (@default_text $kind:expr; $default:expr) => {
        Some($crate::config::key::Kind::write(&$kind, &$default, &$crate::config::key::Style::default()))
    };
    (@read $object:ident; $read:expr;) => { $read };
    (@read $object:ident; $read:expr; $blank:expr) => { if $object.is_shared { Some($blank) } else { $read } };
}
pub(in crate::config) use settings;
