#!/usr/bin/env python3
"""Makes docs/images/demo.svg from a real run of `goproxy demo`.

    cargo build --release && docs/images/demo.py target/release/goproxy

The program runs in a terminal of its own. What it leaves on the screen is drawn: its text, its colours, its bars. Steps
that are not in STEPS are left out, because a reader has little time; nothing else is changed but the pause between
steps. The picture appears step by step where animations are shown, and as a whole elsewhere.
"""

import os
import pty
import re
import select
import struct
import sys
import termios
import fcntl
from html import escape
from pathlib import Path

COLUMNS, ROWS = 92, 300
STEPS = ("goproxy demo", "1.", "2.", "6.", "7.", "Result")

CHAR, LINE, PAD, BAR = 8.0, 18.5, 22, 40  # width and height of a character, padding, height of the title bar
COLOURS = {"": "#d5dbe3", "1": "#ffffff", "31": "#ff7b72", "32": "#3fb950", "36": "#79c0ff", "1;32": "#56d364", "1;31": "#ff7b72"}


def record(program):
    """Everything that the program writes to a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color")
        os.environ.pop("NO_COLOR", None)
        os.execv(program, [program, "demo"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b""
    while True:
        select.select([terminal], [], [])
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            piece = b""
        if not piece:
            break
        written += piece
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        sys.exit(f"{program} demo failed:\n{written.decode()}")
    return written.decode()


def screen(written):
    """The lines that are left on the screen: lists of (colour, text)."""
    lines, row, colour = [[]], 0, ""
    for token in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if token == "\n":
            row += 1
            if row == len(lines):
                lines.append([])
        elif token == "\r":
            pass  # the program clears the line next, or ends it
        elif token.startswith("\x1b"):
            argument, command = token[2:-1], token[-1]
            if command == "A":
                row -= int(argument or 1)
            elif command == "K":
                lines[row] = []
            elif command == "m":
                colour = "" if argument == "0" else argument
        else:
            lines[row].append((colour, token))
    return lines


def steps(lines):
    """The lines of each step, headline first."""
    found = []
    for line in lines:
        if line and line[0][0] == "1":
            found.append([])
        if found:
            found[-1].append(line)
    for step in found:
        while step and not step[-1]:
            step.pop()
    return [step for step in found if step[0][0][1].startswith(STEPS)]


def draw(step, top, delay):
    """One step as SVG, and the line below it."""
    out = [f'<g class="step" style="animation-delay:{delay:.1f}s">']
    for line in step:
        column = 0
        for colour, text in line:
            x, y = PAD + column * CHAR, top + 13.5
            if text and set(text) == {"█"}:
                out.append(
                    f'<rect class="bar" style="animation-delay:{delay + 0.3:.1f}s" x="{x:.1f}" y="{top + 3:.1f}" '
                    f'width="{len(text) * CHAR:.1f}" height="12" rx="2" fill="{COLOURS["32"]}"/>'
                )
            elif text.strip():
                blank = len(text) - len(text.lstrip())
                weight = ' class="bold"' if colour.startswith("1") else ""
                out.append(
                    f'<text x="{x + blank * CHAR:.1f}" y="{y:.1f}" fill="{COLOURS[colour]}"{weight} '
                    f'textLength="{len(text.strip()) * CHAR:.1f}">{escape(text.strip())}</text>'
                )
            column += len(text)
        top += LINE
    out.append("</g>")
    return out, top


def picture(found):
    body, top, delay = [], BAR + PAD * 0.7, 0.0
    for step in found:
        drawn, top = draw(step, top, delay)
        body += drawn
        top += LINE * 0.6
        delay += 1.2
    width, height = COLUMNS * CHAR + 2 * PAD, top + PAD * 0.4
    lights = "".join(
        f'<circle cx="{PAD + 20 * number}" cy="{BAR / 2}" r="6" fill="{fill}"/>'
        for number, fill in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" xml:space="preserve" role="img" aria-label="goproxy demo in a terminal">',
            "<style>",
            "text { font: 13.3px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre }",
            ".bold { font-weight: 700 }",
            "@media (prefers-reduced-motion: no-preference) {",
            "  .step { animation: appear .4s both }",
            "  .bar { animation: grow .9s ease-out both; transform-box: fill-box; transform-origin: left }",
            "  @keyframes appear { from { opacity: 0 } }",
            "  @keyframes grow { from { transform: scaleX(0) } }",
            "}",
            "</style>",
            f'<rect x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="10" fill="#161b22" stroke="#444c56"/>',
            lights,
            f'<text x="{width / 2:.0f}" y="{BAR / 2 + 5}" fill="#8b949e" text-anchor="middle">goproxy demo</text>',
            *body,
            "</svg>",
            "",
        ]
    )


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} PATH-TO-GOPROXY")
    found = steps(screen(record(sys.argv[1])))
    long = ["".join(text for _, text in line) for step in found for line in step]
    long = [line for line in long if len(line) > COLUMNS]
    if long:
        sys.exit(f"longer than {COLUMNS} columns: {long}")
    if len(found) != len(STEPS):
        sys.exit(f"expected the steps {STEPS}; found {[step[0][0][1] for step in found]}")
    Path(__file__).with_name("demo.svg").write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    main()
