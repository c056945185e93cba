use warp::http::StatusCode;

use super::*;
use crate::admin::reply::Refusal;

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
