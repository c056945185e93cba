//! Rates: `"100/s"`, or an object that says more.

use std::time::Duration;

use jsonc_parser::ast::Value;

use super::plain::{report, wrong};
use super::section::object_schema;
use crate::config::declare::Fields;
use crate::config::key::{Describe, Kind, Style, Table};
use crate::config::object::{Object, shown};
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::limits::Rate;

/// Most sessions of a rate, and most at once.
pub(in crate::config) const RATE_MAX: u64 = 1_000_000;

const EXPECTED: &str = "a rate such as \"100/s\"";

/// A rate.
pub(in crate::config) struct RateKind;

pub(in crate::config) const fn rate() -> RateKind {
    RateKind
}

impl RateKind {
    fn short(value: &Value) -> Result<Rate, String> {
        let no_unit = || format!("{}: no unit; expected {EXPECTED}", shown(value));
        let text = match value {
            Value::NumberLit(_) => return Err(no_unit()),
            Value::StringLit(text) => &text.value,
            _ => return Err(wrong(value, EXPECTED)),
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (number, unit) = match text.split_once('/') {
            Some((number, unit)) if is_number(number) => (number, unit),
            None if is_number(text) => return Err(no_unit()),
            _ => return Err(format!("{}: expected {EXPECTED}", shown(value))),
        };
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(format!("{}: unknown unit; expected s, m or h, as in \"100/s\"", shown(value))),
        };
        match number.parse::<u64>() {
            Ok(sessions @ 1..=RATE_MAX) => {
                Ok(Rate { per: Duration::from_secs(seconds), sessions: sessions as u32, burst: None })
            }
            _ => Err(format!("{} is out of range; expected 1 to {RATE_MAX} sessions", shown(value))),
        }
    }
}

impl Describe for RateKind {
    fn schema(&self) -> serde_json::Value {
        let mut schema = object_schema(Rate::TABLE, false);
        schema["type"] = serde_json::json!(["string", "object"]);
        schema["pattern"] = "^[0-9]{1,7}/(s|m|h)$".into();
        schema
    }

    fn expected(&self) -> String {
        "a rate such as \"100/s\" or \"10/m\", or an object".to_owned()
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }

    /// The same whatever the key is called.
    fn tables(&self, _name: &str) -> Vec<(String, Table)> {
        vec![("rate.".to_owned(), Rate::TABLE)]
    }
}

impl Kind for RateKind {
    type Value = Rate;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Rate> {
        if let Value::Object(_) = value {
            let object = Object::open(reader, value, place, Rate::TABLE, false)?;
            return Rate::read(reader, &object, None);
        }
        report(reader, place, value, Self::short(value))
    }

    /// In the short form where that means the same.
    fn write(&self, value: &Rate, style: &Style) -> String {
        match value.unit() {
            Some(unit) if value.burst.is_none() => quoted(&format!("{}/{unit}", value.sessions)),
            _ => {
                let keys = Fields::write(value, style).into_iter().filter(|(_, value)| value != "null");
                let keys: Vec<String> = keys.map(|(name, value)| format!("\"{name}\": {value}")).collect();
                format!("{{ {} }}", keys.join(", "))
            }
        }
    }
}
