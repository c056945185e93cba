//! Where in the file a group's policy is written: for what is found out only when it is made.

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;

use super::problem::{Problem, Problems};
use super::syntax::{syntax, without_bom};

/// The problem that the policy of this group has, at the place where it is written: in the group, in
/// `defaults`, or in the flat form. `index` counts the groups of the configuration that `text` means.
pub fn policy_problem(text: &str, index: usize, message: &str) -> Problem {
    let text = without_bom(text);
    let mut problems = Problems::default();
    let root = syntax(text).ok();
    let found = root.as_ref().and_then(Value::as_object).and_then(|root| written(root, index));
    let (offset, path) = found.unwrap_or_else(|| (0, format!("groups[{index}].policy")));
    problems.add(offset, path, message);
    problems.finish(text).remove(0)
}

fn written(root: &Object, index: usize) -> Option<(usize, String)> {
    let at = |object: &Object, name: &str| object.get(name).map(|property| property.value.start());
    let group = root.get_array("groups").and_then(|groups| groups.elements.get(index)).and_then(Value::as_object);
    let own = group.and_then(|group| at(group, "policy")).map(|offset| (offset, format!("groups[{index}].policy")));
    let shared = || {
        let defaults = root.get_object("defaults")?;
        at(defaults, "policy").map(|offset| (offset, "defaults.policy".to_owned()))
    };
    let flat = || at(root, "lbpolicy").map(|offset| (offset, "lbpolicy".to_owned()));
    own.or_else(shared).or_else(flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_found_where_it_is_written() {
        let text = "\u{feff}{ \"defaults\": { \"policy\": \"wasm:a\" },\n  \"groups\": [{ \"listen\": \"127.0.0.1:1\" },\n    { \"policy\": {\"wasm\": \"b\"} }] }";
        for (text, index, told) in [
            (text, 0, "1:27: defaults.policy: no"),
            (text, 1, "3:17: groups[1].policy: no"),
            ("{ \"lbpolicy\": \"wasm:a\" }", 0, "1:15: lbpolicy: no"),
        ] {
            assert_eq!(policy_problem(text, index, "no").to_string(), told);
        }
    }
}
