//! Values of the flags of `policy simulate`.

use serde_json::json;

use crate::base::text::{did_you_mean, echo};
use crate::config::{Durations, Happening, Problem, SIMULATED_SERVERS_MAX, Scenario, flags, parse_scenario};
use crate::lab::simulate::TraceFormat;

/// Who wrote a log.
pub(super) fn format(text: &str) -> Result<TraceFormat, String> {
    match text {
        "goproxy" => Ok(TraceFormat::Goproxy),
        "haproxy" => Ok(TraceFormat::Haproxy),
        "nginx" => Ok(TraceFormat::Nginx),
        _ => Err(format!("expected goproxy, haproxy or nginx{}", did_you_mean(text, ["goproxy", "haproxy", "nginx"]))),
    }
}

/// A number of sessions.
pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (1e-6..=1e9).contains(number));
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

/// How long sessions are: `exp:30s`.
pub(super) fn duration(text: &str) -> Result<Durations, String> {
    let mut parts = text.split(':');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    let (kind, mean) = match second {
        None => ("exp", first),
        Some(mean) => (first, mean),
    };
    let mut durations = Scenario::default().durations;
    let further = parts.next().map(|part| part.parse::<f64>().ok().filter(|number| number.is_finite()));
    durations.kind = match (kind, further) {
        ("exp" | "exponential", None) => "exponential",
        ("fixed", None) => "fixed",
        ("lognormal", None | Some(Some(0.0..=5.0))) => "lognormal",
        ("pareto", None | Some(Some(1.01..=100.0))) => "pareto",
        _ => return Err("expected exp:TIME, fixed:TIME, lognormal:TIME:SIGMA or pareto:TIME:SHAPE".to_owned()),
    };
    if let Some(Some(number)) = further {
        (durations.sigma, durations.shape) = (number, number);
    }
    durations.mean = flags::simulated_time(mean)?;
    if durations.mean.is_zero() || parts.next().is_some() {
        return Err("expected a time above 0, and at most one number after it".to_owned());
    }
    Ok(durations)
}

/// How many clients there are, and the exponent of their shares: `1000:1.1`.
pub(super) fn clients(text: &str) -> Result<(u32, f64), String> {
    let (count, skew) = text.split_once(':').unwrap_or((text, "0"));
    let count = count.parse::<u32>().ok().filter(|count| (1..=10_000_000).contains(count));
    let skew = skew.parse::<f64>().ok().filter(|skew| (0.0..=5.0).contains(skew));
    count.zip(skew).ok_or_else(|| "expected 1 to 10000000 clients, and after a colon an exponent of 0 to 5".to_owned())
}

/// What happens when: `5m=kill:s3`.
pub(super) fn event(text: &str) -> Result<Happening, String> {
    let expected = "expected TIME=EVENT, such as 5m=kill:s3, 5m=add:2 or 5m=weight:s1=5";
    let (at, event) = text.split_once('=').ok_or(expected)?;
    let (word, what) = event.split_once(':').ok_or(expected)?;
    flags::simulated_time(at)?;
    let value = match word {
        "kill" | "revive" | "drain" | "ready" => json!(what),
        "add" => json!({ "count": what.parse::<u32>().map_err(|_| "add:N expects a number of servers")? }),
        "weight" | "slow" => {
            let (name, number) = what.split_once('=').ok_or(expected)?;
            json!({ name: number.parse::<f64>().map_err(|_| format!("{word}:NAME=N expects a number"))? })
        }
        _ => {
            let words = ["kill", "revive", "drain", "ready", "add", "weight", "slow"];
            return Err(format!(
                "unknown event \"{}\"; expected {}{}",
                echo(word),
                words.join(", "),
                did_you_mean(word, words)
            ));
        }
    };
    // Read as in a file, so that the same bounds hold. Which servers there are is checked with the rest.
    let text = json!({ "until": "366d", "servers": [{ "count": SIMULATED_SERVERS_MAX }], "events": [{ "at": at, word: value }] });
    let scenario = parse_scenario(&text.to_string());
    // What is wrong with a value says more than that there is none then.
    let deepest = |problems: Vec<Problem>| {
        problems
            .into_iter()
            .max_by_key(|problem| problem.path.len())
            .map_or_else(String::new, |problem| problem.message)
    };
    let mut scenario = scenario.map_err(deepest)?;
    Ok(scenario.events.remove(0))
}
