//! The JSON Schema of a file, for editors, made from the declared keys.

use serde_json::{Map, Value};

use super::declare::Fields;
use super::fields::Config;
use super::key::Table;
use super::kinds::object_schema;

/// The schema of `proxy.json`. The old program's flat form is not in it.
pub fn schema() -> String {
    schema_of(Config::TABLE, "proxy.json", "The configuration of goproxy. Comments and trailing commas are accepted.")
}

/// A schema (draft 2020-12), pretty, with a newline at its end.
pub(super) fn schema_of(table: Table, title: &str, description: &str) -> String {
    let mut schema = object_schema(table, false);
    let head =
        [("$schema", "https://json-schema.org/draft/2020-12/schema"), ("title", title), ("description", description)];
    let mut whole: Map<String, Value> = head.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    whole.append(schema.as_object_mut().expect("an object's schema is an object"));
    let text = serde_json::to_string_pretty(&whole).expect("a JSON value is printable");
    text + "\n"
}
