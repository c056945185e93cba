use super::*;

pub(in crate::group) fn settings() -> CheckSettings {
    CheckSettings {
        kind: CheckKind::Tcp,
        port: 0,
        interval: Duration::from_secs(2),
        fast_interval: None,
        down_interval: None,
        timeout: None,
        rise: 2,
        fall: 3,
        jitter: 10,
        start: CheckStart::Up,
        traffic_counts: true,
        send_proxy: None,
        server_tls: None,
        send: None,
        expect: None,
        steps: Vec::new(),
        method: HttpMethod::Get,
        path: "/".to_owned(),
        host: None,
        headers: Vec::new(),
        status: StatusSet::default(),
        body: None,
        role: CheckRole::Any,
        user: None,
        password: None,
    }
}

fn state(start: CheckStart) -> CheckState {
    CheckState::new(Arc::new(CheckSettings { start, ..settings() }), false)
}

fn result(passes: bool) -> CheckResult {
    let outcome = if passes { Ok(()) } else { Err("connection refused".to_owned()) };
    CheckResult { outcome, micros: 400, connect_us: None, code: None }
}

/// The state after each of these results: `u` is up, `d` is down; a capital letter where it has changed.
fn course(state: &mut CheckState, results: &str) -> String {
    let step = |letter| {
        let change = state.take(result(letter == '+'), 0);
        let shown = if state.is_up { 'u' } else { 'd' };
        if change.has_turned { shown.to_ascii_uppercase() } else { shown }
    };
    results.chars().map(step).collect()
}

#[test]
fn a_server_goes_down_after_fall_failures_in_a_row_and_comes_up_after_rise_passes() {
    assert_eq!(course(&mut state(CheckStart::Up), "+--+---+-+++"), "uuuuuuDdddUu");
}

#[test]
fn the_first_result_decides_alone() {
    assert_eq!(course(&mut state(CheckStart::Up), "-+-++"), "DdddU");
    assert_eq!(course(&mut state(CheckStart::Down), "+--"), "Uuu");
    assert_eq!(course(&mut state(CheckStart::Checked), "-+"), "dd");
    let mut state = state(CheckStart::Up);
    assert_eq!(course(&mut state, "+"), "u");
    state.resume();
    assert_eq!(course(&mut state, "-"), "D", "after a time without checks");
}

#[test]
fn a_server_that_has_served_until_now_goes_on_whatever_a_new_one_counts_as() {
    let state = CheckState::new(Arc::new(CheckSettings { start: CheckStart::Down, ..settings() }), true);
    assert_eq!(state.why_down(), None);
}

#[test]
fn the_cause_tells_the_last_failure_and_how_many_there_were() {
    let mut state = state(CheckStart::Down);
    assert_eq!(state.why_down().as_deref(), Some("not checked yet"));
    course(&mut state, "---");
    assert_eq!(state.why_down().as_deref(), Some("check failed: connection refused (3 in a row)"));
    course(&mut state, "++");
    assert_eq!(state.why_down(), None);
}

#[test]
fn the_pause_is_short_while_the_state_is_changing() {
    let (usual, fast) = (Duration::from_secs(2), Duration::from_millis(500));
    let mut state = state(CheckStart::Up);
    assert_eq!(state.pause(), fast, "nothing is known yet");
    for (results, pause) in [("+", usual), ("-", fast), ("--", usual), ("+", fast), ("+", usual)] {
        course(&mut state, results);
        assert_eq!(state.pause(), pause, "{results}");
    }
}

#[test]
fn other_settings_keep_the_state_and_begin_the_counts_anew() {
    let mut state = state(CheckStart::Up);
    course(&mut state, "+--");
    state.set_settings(&Arc::new(CheckSettings { fall: 1, ..settings() }));
    assert_eq!(state.why_down(), None, "not before the next result");
    assert_eq!(course(&mut state, "-"), "D");
    state.set_settings(&Arc::new(CheckSettings { rise: 5, ..settings() }));
    assert!(state.why_down().is_some());
    let mut state = self::state(CheckStart::Up);
    course(&mut state, "+--");
    state.set_settings(&Arc::new(settings()));
    assert_eq!(course(&mut state, "-"), "D", "equal settings change nothing");
}

#[test]
fn a_server_that_changes_too_often_is_said_to_flap_once() {
    let mut state = state(CheckStart::Up);
    course(&mut state, "+");
    let mut said = 0;
    for number in 0..20 {
        let results = if number % 2 == 0 { [false; 3] } else { [true; 3] };
        for passes in results {
            said += u32::from(state.take(result(passes), number * 1_000).is_flapping);
        }
    }
    assert_eq!(said, 1);
    assert_eq!(state.figures().transitions, 20);
}
