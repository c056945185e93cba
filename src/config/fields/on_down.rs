//! The key `on_down`: one word, or one for each cause.

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use crate::config::declare::{Fields, settings};
use crate::config::key::{Describe, Kind, Style, Table};
use crate::config::kinds::{object_schema, section, word, wrong};
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::group::{Fate, OnDown};

settings! {
    impl OnDown {
        /// When checks find the server down.
        check as word::<Fate>() => Fate::Keep, AtOnce;
        /// When the lease of a server that registered itself runs out.
        lease as word::<Fate>() => Fate::Keep, AtOnce;
        /// When an operator sets the server to maint.
        maint as word::<Fate>() => Fate::Keep, AtOnce;
        /// When the server is taken out of the group.
        removed as word::<Fate>() => Fate::Keep, AtOnce;
    }
}

/// A word for every cause, or an object with one for each.
pub(super) struct OnDownKind;

impl Describe for OnDownKind {
    fn schema(&self) -> serde_json::Value {
        json!({ "anyOf": [word::<Fate>().schema(), object_schema(OnDown::TABLE, false)] })
    }

    fn expected(&self) -> String {
        format!("{}, or an object", word::<Fate>().expected())
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        vec![(format!("{name}."), OnDown::TABLE)]
    }
}

impl Kind for OnDownKind {
    type Value = OnDown;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<OnDown> {
        match value {
            Value::StringLit(_) => word::<Fate>().read(reader, place, value).map(OnDown::all),
            Value::Object(_) => section::<OnDown>().read(reader, place, value),
            _ => {
                reader.problems.add(value.start(), place, wrong(value, "keep, close or an object, {…}"));
                None
            }
        }
    }

    fn write(&self, value: &OnDown, style: &Style) -> String {
        for fate in [Fate::Keep, Fate::Close] {
            if *value == OnDown::all(fate) {
                return word::<Fate>().write(&fate, style);
            }
        }
        section::<OnDown>().write(value, style)
    }
}
