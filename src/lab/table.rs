//! Results for people: rows of cells as a table, and times.

use std::fmt::Write;
use std::time::Duration;

use crate::base::terminal::Style;
use crate::base::text;

/// The rows in columns that are as wide as they have to be: the first to the left, the others to the right. The first row has
/// the heads.
pub fn table(rows: &[Vec<String>], style: Style) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        row.iter().zip(&widths).skip(1).for_each(|(cell, width)| _ = write!(line, "  {cell:>width$}"));
        let _ = writeln!(text, "{}", if number == 0 { style.bold(&line) } else { line });
    }
    text
}

/// A time in its longest unit that needs no fraction, where it is a second or more.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let is_whole = time.subsec_nanos() == 0 && seconds > 0;
    match is_whole {
        true if seconds.is_multiple_of(3_600) => format!("{} h", seconds / 3_600),
        true if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        true => format!("{seconds} s"),
        false => text::time(time.as_nanos() as f64),
    }
}
