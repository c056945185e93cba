//! The JSON Schema of the file, for editors, made from the declared keys.

use serde_json::{Map, Value};

use super::declare::Fields;
use super::fields::Config;
use super::kinds::object_schema;

/// The schema (draft 2020-12), pretty, with a newline at its end. The old program's flat form is not in it.
pub fn schema() -> String {
    let mut schema = object_schema(Config::TABLE, false);
    let head = [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("title", "proxy.json"),
        ("description", "The configuration of goproxy. Comments and trailing commas are accepted."),
    ];
    let mut whole: Map<String, Value> = head.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    whole.append(schema.as_object_mut().expect("an object's schema is an object"));
    let text = serde_json::to_string_pretty(&whole).expect("a JSON value is printable");
    text + "\n"
}
