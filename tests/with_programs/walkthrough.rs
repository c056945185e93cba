//! Documents whose commands are run: README.md and docs/tutorial.md, as a reader would type them.
//!
//! A fenced block of `sh` is run, each in turn, in one shell per document. A block marked `text output` or `json output`
//! after it says what was printed; `…` stands for whatever changes. Two comments that readers do not see help:
//! `<!-- until: COMMAND -->` waits before the next block until the command succeeds, and `<!-- not run: WHY -->` leaves
//! it out, as does `<!-- command: NAME -->`, which marks what `.ci/run` runs.
//!
//! Every document has a loopback address of its own in place of 127.0.0.1, so that its ports are free.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::own_ip;

/// How long an `until` may take. Other programs may keep the machine busy.
const WAIT_SECONDS: u32 = 60;

/// What stands before the output of each block, with its number.
const MARK: &str = "@@@ block ";

/// One block of commands.
struct Block {
    /// Where it is in the document, counted from 1.
    line: usize,
    until: Option<String>,
    commands: String,
    expected: Option<String>,
}

/// Runs the commands of a document and compares what they print.
#[track_caller]
pub(crate) fn follow(document: &str) {
    let home = tempfile::tempdir().expect("a folder");
    let ip = own_ip().to_string();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).expect("the document");
    let blocks = blocks(&text.replace("127.0.0.1", &ip));
    assert!(!blocks.is_empty(), "{document} has no commands");

    let bin = home.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_goproxy"), bin.join("goproxy")).expect("a link");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a PATH"));
    let work = home.path().join("work");
    fs::create_dir(&work).expect("a folder");
    let output = home.path().join("output");
    let file = fs::File::create(&output).expect("a file");
    let status = Command::new("bash")
        .args(["-c", &script(&blocks)])
        .current_dir(&work)
        .env("PATH", path)
        .env_remove("PROXY_CONFIG_PATH")
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a file"))
        .stderr(file)
        .status()
        .unwrap_or_else(|error| panic!("bash is needed and does not start: {error}"));

    let said = fs::read_to_string(&output).expect("the output");
    let log = fs::read_to_string(work.join("proxy.log")).unwrap_or_default();
    let said = outputs(&said);
    for (index, block) in blocks.iter().enumerate() {
        let Some(said) = said.get(index) else {
            panic!("{document}:{}: not reached\n{}\n{log}", blocks[index - 1].line, said.concat());
        };
        let expected = block.expected.as_deref().unwrap_or("…");
        assert!(matches(expected, said), "{document}:{}: expected\n{expected}\nand got\n{said}\n\n{log}", block.line);
    }
    assert!(status.success(), "{document}: the last command failed\n{}\n{log}", said.concat());
}

/// The blocks of a document that are run.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut until, mut is_left_out) = (None, false);
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(command) = line.strip_prefix("<!-- until: ").and_then(|rest| rest.strip_suffix(" -->")) {
            until = Some(command.to_owned());
        }
        is_left_out |= line.starts_with("<!-- not run: ") || line.starts_with("<!-- command: ");
        let Some(kind) = line.strip_prefix("```") else { continue };
        let inside: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let inside = inside.join("\n");
        match kind {
            "sh" if !is_left_out => {
                blocks.push(Block { line: number + 1, until: until.take(), commands: inside, expected: None });
            }
            "text output" | "json output" => {
                let block = blocks.last_mut().unwrap_or_else(|| panic!("line {}: whose output?", number + 1));
                assert!(block.expected.replace(inside).is_none(), "line {}: a second output", number + 1);
            }
            _ => {}
        }
        is_left_out = false;
    }
    blocks
}

/// One program of all the blocks, which ends with everything it has started.
fn script(blocks: &[Block]) -> String {
    let mut script = format!(
        "set -eu\n\
         trap 'for job in $(jobs -p); do kill $job 2> /dev/null || true; done' EXIT\n\
         until_it() {{\n\
         for attempt in $(seq {}); do if eval \"$1\" > /dev/null 2>&1; then return; fi; sleep 0.1; done\n\
         echo \"waited in vain: $1\"; exit 1\n\
         }}\n",
        WAIT_SECONDS * 10
    );
    for (index, block) in blocks.iter().enumerate() {
        if let Some(command) = &block.until {
            let _ = writeln!(script, "until_it '{}'", command.replace('\'', r"'\''"));
        }
        let _ = writeln!(script, "echo; echo '{MARK}{index}'\n{}", block.commands);
    }
    script
}

/// What each block printed, without what the shell says of jobs that were killed.
fn outputs(said: &str) -> Vec<String> {
    let is_of_jobs = |line: &str| line.contains(": line ") && (line.contains("Terminated") || line.contains("Killed"));
    let mut outputs: Vec<String> = Vec::new();
    for line in said.lines().filter(|line| !line.trim().is_empty() && !is_of_jobs(line)) {
        if line.starts_with(MARK) {
            outputs.push(String::new());
        } else if let Some(output) = outputs.last_mut() {
            *output += &format!("{line}\n");
        }
    }
    outputs
}

/// Whether the text is as expected, where `…` stands for anything within a line, and a line of nothing else for any lines.
fn matches(expected: &str, said: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.trim().is_empty()).map(|line| line.trim_end().to_owned()).collect()
    };
    lines_match(&lines(expected), &lines(said))
}

fn lines_match(expected: &[String], said: &[String]) -> bool {
    match expected.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first.trim() == "…" => (0..=said.len()).any(|at| lines_match(rest, &said[at..])),
        Some((first, rest)) => {
            said.split_first().is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others))
        }
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let Some((first, rest)) = expected.split_once('…') else { return expected == line };
    let Some(mut line) = line.strip_prefix(first) else { return false };
    let Some((middle, last)) = rest.rsplit_once('…') else { return line.ends_with(rest) };
    for piece in middle.split('…') {
        let Some(at) = line.find(piece) else { return false };
        line = &line[at + piece.len()..];
    }
    line.ends_with(last)
}

#[test]
fn what_changes_may_be_left_out_and_nothing_else() {
    assert!(matches("a … c\nd", "a b c\nd\n"));
    assert!(matches("…\nd", "a\nb\nd\n"));
    assert!(matches("a…b…c", "a 1 b 2 c"));
    for wrong in ["a b c\ne", "a b c", "a b c\nd\ne", "x b c\nd"] {
        assert!(!matches("a … c\nd", wrong), "{wrong}");
    }
    assert!(!matches("a…b…c", "a 1 c"));
}

#[test]
fn blocks_are_run_unless_they_say_why_not() {
    let text = "<!-- until: true -->\n```sh\none\n```\n```text output\n1\n```\n<!-- not run: slow -->\n```sh\ntwo\n```\n\
                ```sh skip\nthree\n```\n```sh\nfour\n```\n";
    let blocks = blocks(text);
    let commands: Vec<&str> = blocks.iter().map(|block| block.commands.as_str()).collect();
    assert_eq!(commands, ["one", "four"]);
    assert_eq!((blocks[0].until.as_deref(), blocks[0].expected.as_deref()), (Some("true"), Some("1")));
}
