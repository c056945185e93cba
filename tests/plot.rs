//! The plots of the benchmark, which has no harness for tests of its own.

#[path = "../benches/peers/plot.rs"]
mod plot;

use plot::{Bar, Chart, Panel, svg};

fn chart(panels: Vec<Panel>) -> String {
    svg(&Chart { figure: "CPU µs per <unit>".into(), caption: vec!["a & b".into()], panels })
}

fn bar(label: &str, quartiles: [f64; 3]) -> Bar {
    Bar { label: label.into(), quartiles }
}

/// The attribute `name` of the first line that holds `what`.
fn number(svg: &str, what: &str, name: &str) -> f64 {
    let line = svg.lines().find(|line| line.contains(what)).expect("it is drawn");
    let value = line.split_once(&format!(" {name}=\"")).expect("it has the attribute").1;
    value.split('"').next().and_then(|value| value.parse().ok()).expect("it is a number")
}

#[test]
fn a_bar_twice_as_long_stands_for_twice_as_much() {
    let svg = chart(vec![Panel { name: "p".into(), bars: vec![bar("a", [9.0, 10.0, 11.0]), bar("b", [20.0; 3])] }]);
    let (first, other) = (number(&svg, "rect class=\"first\"", "width"), number(&svg, "rect class=\"other\"", "width"));
    assert!((2.0 * first - other).abs() < 0.2, "{first} {other}");
    let left = number(&svg, "rect class=\"first\"", "x");
    let (lower, upper) = (number(&svg, "line class=\"whisker\"", "x1"), number(&svg, "line class=\"whisker\"", "x2"));
    assert!((lower + upper - 2.0 * (left + first)).abs() < 0.3, "{lower} {upper}");
}

#[test]
fn everything_said_is_inside_the_picture() {
    let panels = ["one", "two"].map(|name| Panel { name: name.into(), bars: vec![bar("a", [1.0, 2.0, 3.0])] });
    let svg = chart(panels.into());
    for text in [">one<", ">two<", ">a<", ">a &amp; b<", ">CPU µs per &lt;unit&gt;<"] {
        assert!(svg.contains(text), "{text} in {svg}");
    }
    let height = svg.split_once("viewBox=\"0 0 820 ").expect("it has a size").1;
    let height: f64 = height.split('"').next().and_then(|text| text.parse().ok()).expect("a number");
    let bottoms = svg.lines().filter_map(|line| line.split_once(" y=\"")?.1.split('"').next()?.parse().ok());
    assert!(bottoms.fold(0.0, f64::max) + 8.0 <= height);
}

#[test]
fn marks_are_round_and_the_axis_holds_the_largest_value() {
    for (largest, last) in [(47.0, ">50<"), (0.31, ">0.4<"), (1800.0, ">2000<"), (0.0, ">1<")] {
        let svg = chart(vec![Panel { name: "p".into(), bars: vec![bar("a", [largest; 3])] }]);
        let mut marks = svg.lines().filter(|line| line.contains("class=\"small\" text-anchor=\"middle\""));
        assert!(marks.next_back().expect("there are marks").contains(last), "{largest} in {svg}");
    }
}

#[test]
fn nothing_but_the_picture_is_fetched_or_run() {
    let svg = chart(vec![Panel { name: "p".into(), bars: vec![bar("a", [1.0; 3])] }]);
    assert_eq!(svg.matches("://").count(), 1, "the one is the name of the format");
    assert!(!svg.contains("<script") && !svg.contains("href"));
}
