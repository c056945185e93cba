//! The JSON Schema of the file, for editors: the table of keys in another notation.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, LABEL_LEN_MAX, LABELS_MAX, MODULE_CONFIG_LEN_MAX, ROOT, Shape};
use super::units::{SIZE_PATTERN, TIME_PATTERN, size_text, time_text};
use crate::policy::built_in::BUILT_IN;
use crate::policy::spec::{MODULE_NAME_LEN_MAX, MODULE_PREFIX};

/// The schema (draft 2020-12), pretty, with a newline at its end. The old program's flat form is not in it.
pub fn schema() -> String {
    let mut schema = object(ROOT);
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

fn object(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.default.is_none()).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = shape(key.shape);
    let mut description = key.doc.to_owned();
    if let Shape::Time(..) | Shape::Size(..) | Shape::List(..) | Shape::Free = key.shape {
        description.push_str(&format!(" Expected: {}.", range(key.shape)));
    }
    schema["description"] = description.into();
    if let Some(default) = key.default {
        schema["default"] = serde_json::from_str(default).expect("a default of the table is JSON");
        if default == "null" {
            let kind = schema["type"].take();
            schema["type"] = json!([kind, "null"]);
        }
    }
    schema
}

fn shape(shape: Shape) -> Value {
    match shape {
        Shape::Switch => json!({ "type": "boolean" }),
        Shape::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Time(..) => json!({ "type": "string", "pattern": TIME_PATTERN }),
        Shape::Size(..) => json!({ "type": "string", "pattern": SIZE_PATTERN }),
        Shape::Word(words) => json!({ "type": "string", "enum": words }),
        Shape::Policy(keys) => json!({ "anyOf": [
            { "type": "string", "enum": BUILT_IN },
            { "type": "string", "pattern": module_pattern(MODULE_PREFIX) },
            object(keys),
        ] }),
        Shape::Module => json!({ "type": "string", "pattern": module_pattern("") }),
        Shape::Free => json!({ "type": "object" }),
        Shape::Sha256 => json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" }),
        Shape::Text => json!({ "type": "string", "minLength": 1 }),
        Shape::Socket => json!({ "type": "string", "pattern": "^([0-9.]+|\\[[^\\]]+\\]):[0-9]{1,5}$" }),
        Shape::SocketOrUnix => {
            json!({ "type": "string", "pattern": "^(unix:/.+|([0-9.]+|\\[[^\\]]+\\]):[0-9]{1,5})$" })
        }
        Shape::Server => {
            json!({ "type": "string", "pattern": "^.+:[0-9]{1,5}$", "maxLength": crate::server::ADDR_LEN_MAX })
        }
        Shape::Networks => json!({ "type": "array", "maxItems": keys::NETWORKS_MAX, "items": { "type": "string" } }),
        Shape::Labels => json!({
            "type": "object",
            "maxProperties": LABELS_MAX,
            "propertyNames": { "minLength": 1, "maxLength": LABEL_LEN_MAX },
            "additionalProperties": { "type": "string", "maxLength": LABEL_LEN_MAX },
        }),
        Shape::Object(keys) => object(keys),
        Shape::List(keys, max, plain) => {
            let plain = plain.and_then(|name| keys.iter().find(|key| key.name == name)).map(property);
            let items = match plain {
                Some(plain) => json!({ "anyOf": [plain, object(keys)] }),
                None => object(keys),
            };
            json!({ "type": "array", "maxItems": max, "items": items })
        }
    }
}

fn module_pattern(prefix: &str) -> String {
    format!("^{prefix}[a-zA-Z0-9_-][a-zA-Z0-9_.-]{{0,{}}}$", MODULE_NAME_LEN_MAX - 1)
}

/// The range of a value in the words of the messages.
pub(super) fn range(shape: Shape) -> String {
    let time = |ms| time_text(std::time::Duration::from_millis(ms));
    match shape {
        Shape::Switch => "true or false".to_owned(),
        Shape::Whole(min, max) => format!("{min} to {max}"),
        Shape::Time(false, min, max) => format!("a time of {} to {}", time(min), time(max)),
        Shape::Time(true, min, max) => format!("0s, or a time of {} to {}", time(min), time(max)),
        Shape::Size(min, max) => format!("a size of {} to {}", size_text(min), size_text(max)),
        Shape::Word(words) => words.join(", "),
        Shape::Policy(keys) => {
            let object = if keys.is_empty() { "" } else { " or an object" };
            format!("{}, {MODULE_PREFIX}NAME{object}", BUILT_IN.join(", "))
        }
        Shape::Module => format!("1 to {MODULE_NAME_LEN_MAX} letters, digits, _, - and . (not in front)"),
        Shape::Free => format!("an object of at most {}", size_text(MODULE_CONFIG_LEN_MAX as u64)),
        Shape::Sha256 => "64 hex digits".to_owned(),
        Shape::Text => "a string".to_owned(),
        Shape::Socket => "ip:port".to_owned(),
        Shape::SocketOrUnix => "ip:port or unix:PATH".to_owned(),
        Shape::Server => "host:port".to_owned(),
        Shape::Networks => "a list of networks".to_owned(),
        Shape::Labels => format!("an object, at most {LABELS_MAX} names with text of at most {LABEL_LEN_MAX} bytes"),
        Shape::Object(_) => "an object".to_owned(),
        Shape::List(_, max, _) => format!("a list of at most {max}"),
    }
}
