//! What marks and graphs are made of, for good terminals and for poor ones.

use super::state::Standing;

/// Which characters are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Glyphs {
    /// Two values in a character, four steps high.
    #[default]
    Braille,
    /// One value in a character, eight steps high.
    Block,
    /// For terminals that know no others.
    Ascii,
}

/// By their height, from the lowest step.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const LETTERS: [char; 5] = [' ', '.', ':', '|', '#'];

/// The dots of a braille character from below, of its left and its right half.
const DOTS: [[u32; 4]; 2] = [[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]];

impl Glyphs {
    /// What the environment promises: `locale` is what `LC_ALL`, `LC_CTYPE` or `LANG` says, `term` is `TERM`.
    pub(super) fn suiting(locale: Option<&str>, term: Option<&str>) -> Self {
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        match (locale.as_str(), term) {
            ("c" | "posix", _) => Self::Ascii,
            (locale, _) if !locale.is_empty() && !locale.contains("utf") => Self::Ascii,
            // The console of Linux has few characters in its font.
            (_, Some("linux")) => Self::Block,
            _ => Self::Braille,
        }
    }

    /// The next ones.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Braille => Self::Block,
            Self::Block => Self::Ascii,
            Self::Ascii => Self::Braille,
        }
    }

    /// The shape of a server's standing.
    pub(super) fn mark(self, standing: Standing) -> &'static str {
        match (self, standing) {
            (Self::Ascii, Standing::Offline) => "x",
            (Self::Ascii, Standing::Suspect) => "!",
            (Self::Ascii, Standing::Maint | Standing::Drain) => "-",
            (Self::Ascii, Standing::Online) => "*",
            (_, Standing::Offline) => "○",
            (_, Standing::Suspect) => "▲",
            (_, Standing::Maint | Standing::Drain) => "◐",
            (_, Standing::Online) => "●",
        }
    }

    /// One of these, as the terminal knows it.
    pub(super) fn either(self, good: &'static str, poor: &'static str) -> &'static str {
        if self == Self::Ascii { poor } else { good }
    }

    /// A bar for `part` of `whole`, `width` characters long when they are equal.
    pub(super) fn bar(self, part: u64, whole: u64, width: usize) -> String {
        let eighths = usize::try_from(u128::from(part.min(whole)) * 8 * width as u128 / u128::from(whole.max(1)))
            .unwrap_or_default();
        let (full, rest) = (eighths / 8, eighths % 8);
        match self {
            Self::Ascii => "#".repeat((eighths + 4) / 8),
            _ if rest > 0 => format!("{}{}", "█".repeat(full), ['▏', '▎', '▍', '▌', '▋', '▊', '▉'][rest - 1]),
            _ => "█".repeat(full),
        }
    }

    /// A graph of `values`, the newest at the right edge: its rows from above, of `width` characters each.
    ///
    /// A value of zero is a line at the bottom, so that it differs from no value.
    pub(super) fn graph(self, values: &[u64], width: usize, height: usize) -> Vec<String> {
        let (per_char, steps) = match self {
            Self::Braille => (2, 4),
            Self::Block => (1, 8),
            Self::Ascii => (1, 4),
        };
        let room = width * per_char;
        let values = &values[values.len().saturating_sub(room)..];
        let max = values.iter().copied().max().unwrap_or(0).max(1);
        let top = (steps * height - 1) as u128;
        let level = |value: u64| 1 + (u128::from(value) * top).div_ceil(u128::from(max)) as usize;
        let empty = std::iter::repeat_n(0, room - values.len());
        let levels: Vec<usize> = empty.chain(values.iter().map(|value| level(*value))).collect();
        let row = |from_below: usize| {
            let at = |level: usize| level.saturating_sub(from_below * steps).min(steps);
            levels.chunks(per_char).map(|levels| self.column(levels, at)).collect()
        };
        (0..height).rev().map(row).collect()
    }

    fn column(self, levels: &[usize], at: impl Fn(usize) -> usize) -> char {
        match (self, levels) {
            (Self::Block, [level]) => BLOCKS[at(*level)],
            (Self::Ascii, [level]) => LETTERS[at(*level)],
            _ => {
                let dots = levels.iter().zip(DOTS).map(|(level, dots)| dots[..at(*level)].iter().sum::<u32>());
                match dots.sum::<u32>() {
                    0 => ' ',
                    dots => char::from_u32(0x2800 + dots).unwrap_or(' '),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_is_at_the_right_edge_and_the_greatest_reaches_the_top() {
        assert_eq!(Glyphs::Block.graph(&[0, 4, 8], 5, 1), ["  ▁▅█"]);
        assert_eq!(Glyphs::Block.graph(&[0, 8, 4], 3, 2), [" █▁", "▁██"]);
        assert_eq!(Glyphs::Block.graph(&[9, 9, 9, 0, 1], 2, 1), ["▁█"], "what has left does not count");
        assert_eq!(Glyphs::Braille.graph(&[0, 0, 8], 2, 1), ["⢀⣸"]);
        assert_eq!(Glyphs::Ascii.graph(&[0, 1, 3], 4, 1), [" .:#"]);
        assert_eq!(Glyphs::Braille.graph(&[], 3, 2), ["   ", "   "]);
        assert_eq!(Glyphs::Braille.graph(&[u64::MAX], 0, 1), [""]);
    }

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        assert_eq!(
            [0, 25, 50, 100, 200].map(|part| Glyphs::Braille.bar(part, 100, 4)),
            ["", "█", "██", "████", "████"]
        );
        assert_eq!(Glyphs::Braille.bar(30, 100, 4), "█▏");
        assert_eq!(Glyphs::Ascii.bar(40, 100, 4), "##");
        assert_eq!(Glyphs::Braille.bar(0, 0, 4), "");
    }

    #[test]
    fn a_terminal_gets_what_it_can_show() {
        for (locale, term, expected) in [
            (None, Some("xterm"), Glyphs::Braille),
            (Some("en_US.UTF-8"), Some("xterm"), Glyphs::Braille),
            (Some("C.utf8"), Some("linux"), Glyphs::Block),
            (Some("C"), Some("xterm"), Glyphs::Ascii),
            (Some("de_DE.ISO-8859-1"), Some("xterm"), Glyphs::Ascii),
        ] {
            assert_eq!(Glyphs::suiting(locale, term), expected, "{locale:?} {term:?}");
        }
        assert_eq!(Glyphs::Ascii.next(), Glyphs::Braille);
    }
}
