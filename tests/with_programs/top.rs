//! `goproxy top` on a terminal, which tmux plays: what is seen, what keys do, and that the shell gets its terminal back.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{FakeServer, Group, TestProxy, eventually};

/// A shell on a terminal of 80 columns and 24 lines.
struct Terminal {
    home: TempDir,
}

impl Terminal {
    fn start() -> Self {
        let terminal = Self { home: tempfile::tempdir().unwrap() };
        // A shell without a prompt of its own, so that the picture is nothing but what the commands write.
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "env PS1='$ ' sh"]);
        terminal
    }

    #[track_caller]
    fn tmux(&self, args: &[&str]) -> String {
        let socket = self.home.path().join("tmux");
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(socket).args(args).env_remove("TMUX").env("TERM", "xterm-256color");
        let output = command.output().unwrap_or_else(|error| panic!("tmux is needed and does not start: {error}"));
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn pid_file(&self) -> PathBuf {
        self.home.path().join("pid")
    }

    /// Types a line.
    fn line(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Starts `goproxy top`, with what stands before it.
    fn top(&self, before: &str, admin: SocketAddr) {
        let (pid_file, goproxy) = (self.pid_file(), env!("CARGO_BIN_EXE_goproxy"));
        let _none_yet = fs::remove_file(&pid_file);
        let command = format!("echo $$ > {}; exec {goproxy} top --admin {admin}", pid_file.display());
        self.line(&format!("clear; {before} LANG=C.UTF-8 sh -c '{command}'; echo left with $?"));
    }

    fn signal(&self, signal: Signal) {
        let pid: i32 = fs::read_to_string(self.pid_file()).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(text, || {
                last = self.picture();
                last.contains(text)
            });
        }));
        assert!(found.is_ok(), "no {text:?} in\n{last}");
        last
    }

    /// It shows a picture in the place of the shell's lines.
    fn has_picture(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }

    /// The program has ended in this way, and the shell has its terminal as it was.
    #[track_caller]
    fn wait_for_shell(&self, code: &str) {
        self.wait_for(&format!("left with {code}"));
        assert_eq!(self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
        self.line("clear; stty -a");
        let modes = self.wait_for("icanon");
        assert!(!modes.contains("-icanon") && !modes.contains("-echo "), "{modes}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.home.path().join("tmux");
        // It may be over already.
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output();
    }
}

fn with_two_servers() -> (TestProxy, [FakeServer; 2]) {
    let servers = [FakeServer::echo(), FakeServer::echo()];
    let proxy = TestProxy::start(Group::new("ha", &[&servers[0], &servers[1]]).with("name", "web"));
    (proxy, servers)
}

#[test]
fn a_server_is_drained_after_a_question_and_seen_to_be() {
    let (proxy, [first, _second]) = with_two_servers();
    let terminal = Terminal::start();
    terminal.top("", proxy.admin);
    let picture = terminal.wait_for("2 of 2 servers online");
    assert!(picture.contains(&first.addr.to_string()), "{picture}");
    let colored = terminal.tmux(&["capture-pane", "-p", "-e"]);
    assert!(colored.contains("38;5;2m● online"), "online is green: {colored:?}");
    let mut client = proxy.connect();
    client.echo(b"hello");
    terminal.press("d");
    let question = terminal.wait_for("leave it as it is");
    assert!(question.contains(&format!("Drain {} of web", first.addr)), "{question}");
    terminal.press("n");
    eventually("the question is gone", || !terminal.picture().contains("leave it as it is"));
    assert_eq!(proxy.server(first.addr)["state"], "ready");
    terminal.press("d");
    terminal.wait_for("leave it as it is");
    terminal.press("y");
    terminal.wait_for(&format!("{}: state is drain", first.addr));
    terminal.wait_for("1 of 2 servers online");
    assert_eq!(proxy.server(first.addr)["state"], "drain");
    terminal.press("4");
    terminal.wait_for("admin_change");
    terminal.press("q");
    terminal.wait_for_shell("0");
    client.finish();
    client.receive_all();
}

#[test]
fn the_terminal_is_given_back_after_signals_and_a_panic() {
    let (proxy, _servers) = with_two_servers();
    let terminal = Terminal::start();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        terminal.top("", proxy.admin);
        terminal.wait_for("2 of 2 servers online");
        terminal.signal(signal);
        terminal.wait_for_shell("0");
    }
    terminal.top("RUST_BACKTRACE=0 GOPROXY_TEST_PANIC=top", proxy.admin);
    terminal.wait_for("a test wants a panic at top");
    terminal.wait_for_shell("101");
}

#[test]
fn the_shell_comes_back_for_a_while() {
    let (proxy, _servers) = with_two_servers();
    let terminal = Terminal::start();
    terminal.line("set -m");
    terminal.top("", proxy.admin);
    terminal.wait_for("2 of 2 servers online");
    terminal.press("C-z");
    terminal.wait_for("left with ");
    terminal.line("clear; fg");
    terminal.wait_for("2 of 2 servers online");
    eventually("it has the terminal again", || terminal.has_picture());
    terminal.press("q");
    eventually("the shell is back", || !terminal.has_picture());
}

#[test]
fn a_proxy_that_is_paused_is_told_and_found_again() {
    let (proxy, _servers) = with_two_servers();
    let terminal = Terminal::start();
    terminal.top("NO_COLOR=1", proxy.admin);
    terminal.wait_for("2 of 2 servers online");
    let plain = terminal.tmux(&["capture-pane", "-p", "-e"]);
    assert!(plain.contains("● online") && !plain.contains("38;5;"), "no colours are wanted: {plain:?}");
    proxy.signal(Signal::STOP);
    terminal.wait_for("not connected for");
    proxy.signal(Signal::CONT);
    eventually("it is connected again", || !terminal.picture().contains("not connected for"));
    terminal.press("q");
    terminal.wait_for_shell("0");
}

#[test]
fn a_dumb_terminal_is_told_what_to_do_instead() {
    let (proxy, _servers) = with_two_servers();
    let terminal = Terminal::start();
    terminal.top("TERM=dumb", proxy.admin);
    terminal.wait_for("TERM=dumb can show no picture");
    terminal.wait_for_shell("1");
}
