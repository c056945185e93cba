//! How the kinds of events are declared: what each is called, how much it matters, what it says, and its fields.
//!
//! One declaration makes the type, the level and the line of each kind, and the list of messages that `docs/logs.md` is
//! held to. A field without a name in quotes is for subscribers and is not shown. A kind with a name after `=>` is also
//! told to viewers of `/events`, under that name and with the same fields.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::fields::Visitor;
use crate::base::clock;
use crate::base::label::GroupLabel;

/// What a field of an event may be.
pub(super) trait Field {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>);
}

impl Field for u16 {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.number(name, *self);
    }
}

impl Field for u64 {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.number(name, *self);
    }
}

impl Field for NonZeroU64 {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.number(name, *self);
    }
}

impl Field for usize {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.number(name, *self as u64);
    }
}

impl Field for u32 {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.number(name, *self);
    }
}

impl Field for f64 {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.fraction(name, *self);
    }
}

/// In milliseconds.
impl Field for Duration {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.number(name, clock::as_ms(*self));
    }
}

impl Field for &'static str {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.text(name, self);
    }
}

impl Field for Box<str> {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.text(name, self);
    }
}

impl Field for Arc<str> {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.text(name, self);
    }
}

impl Field for Box<[Box<str>]> {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.list(name, self);
    }
}

impl Field for SocketAddr {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        to.addr(name, *self);
    }
}

/// Under its own names.
impl Field for GroupLabel {
    fn show(&self, _: &'static str, to: &mut Visitor<'_>) {
        to.group(self);
    }
}

/// Left out where there is none.
impl<T: Field> Field for Option<T> {
    fn show(&self, name: &'static str, to: &mut Visitor<'_>) {
        if let Some(field) = self {
            field.show(name, to);
        }
    }
}

/// Declares an enum of events. Each kind is `LEVEL "message" => "name for viewers" Name { "name" field: Type, … }`.
macro_rules! kinds {
    (
        $(#[$doc:meta])*
        $name:ident {
            $(
                $(#[$kind_doc:meta])*
                $level:ident $message:literal $(=> $told:literal)?
                $kind:ident $({ $( $(#[$field_doc:meta])* $($shown:literal)? $field:ident: $type:ty ),+ $(,)? })?
            )+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub enum $name {
            $( $(#[$kind_doc])* $kind $({ $( $(#[$field_doc])* $field: $type ),+ })?, )+
        }

        impl $name {
            /// The level and the message of each kind.
            pub(super) const MESSAGES: &[(Level, &str)] = &[$( (Level::$level, $message) ),+];

            /// The name for viewers and the message of each kind that they are told of.
            pub(super) const NAMES: &[(&str, &str)] = &[$( $( ($told, $message), )? )+];

            /// The name for viewers; `None` for what is for the log and for subscribers only.
            pub(super) fn name(&self) -> Option<&'static str> {
                match self {
                    $( Self::$kind { .. } => [$($told)?].first().copied(), )+
                }
            }

            pub(super) fn level(&self) -> Level {
                match self {
                    $( Self::$kind { .. } => Level::$level, )+
                }
            }

            /// One of each kind.
            #[cfg(test)]
            pub(super) fn samples(seed: &$crate::events::sample::Seed) -> Vec<Self> {
                vec![$( Self::$kind $({ $($field: $crate::events::sample::Sample::sample(seed)),+ })? ),+]
            }

            /// Shows every field in the order of the declaration, and says what has happened.
            #[allow(unused_variables, reason = "some fields are not shown")]
            pub(super) fn show(&self, to: &mut Visitor<'_>) -> &'static str {
                match self {
                    $( Self::$kind $({ $($field),+ })? => {
                        $( $( $( Field::show($field, $shown, to); )? )+ )?
                        $message
                    } )+
                }
            }
        }
    };
}

pub(super) use kinds;
