//! Rows of numbers, as short as they can be written.

use std::fmt::Write;

/// The numbers of one thing; `None` for what cannot be told.
pub(super) type Row<const N: usize> = [Option<u64>; N];

/// Writes `[first,…]` without the zeros at the end.
pub(super) fn write(text: &mut String, first: Option<u32>, row: &[Option<u64>]) {
    text.push('[');
    let is_zero = |number: &&Option<u64>| **number == Some(0);
    let len = row.len() - row.iter().rev().take_while(is_zero).count();
    let mut numbers = first.map(|first| Some(u64::from(first))).into_iter().chain(row[..len].iter().copied());
    if let Some(number) = numbers.next() {
        write_number(text, number);
    }
    for number in numbers {
        text.push(',');
        write_number(text, number);
    }
    text.push(']');
}

fn write_number(text: &mut String, number: Option<u64>) {
    match number {
        Some(number) => write!(text, "{number}").expect("a String takes whatever is written"),
        None => text.push_str("null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_left_out_and_nothing_else() {
        for (first, row, expected) in [
            (Some(7), [Some(0), Some(0), Some(0)], "[7]"),
            (Some(7), [Some(0), Some(5), Some(0)], "[7,0,5]"),
            (Some(7), [Some(1), Some(0), None], "[7,1,0,null]"),
            (None, [Some(0), Some(0), Some(0)], "[]"),
            (None, [Some(3), None, Some(0)], "[3,null]"),
        ] {
            let mut text = String::new();
            write(&mut text, first, &row);
            assert_eq!(text, expected);
        }
    }
}
