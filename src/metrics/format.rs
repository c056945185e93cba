//! The two formats of the text, which of them a reader wants, and the way from one to the other.

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4, which everything reads.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format for a request with these `Accept` headers, joined by commas: OpenMetrics for those that name
    /// it and do not prefer plain text, the classic text for everybody else.
    pub fn for_accept(accept: &str) -> Self {
        let (mut open_metrics, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let quality = quality.map_or(1.0, |text| text.parse::<f64>().unwrap_or(0.0));
            let best: &mut f64 = match kind {
                _ if kind.eq_ignore_ascii_case("application/openmetrics-text") => &mut open_metrics,
                _ if kind.eq_ignore_ascii_case("text/plain") => &mut text,
                _ => continue,
            };
            *best = best.max(quality);
        }
        if open_metrics > 0.0 && open_metrics >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The content type that goes with the text.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes OpenMetrics text as the classic text: there a family has the name of its samples, so that of a counter
/// ends with `_total`; what tells facts is a gauge; and there is no end mark.
pub(super) fn to_classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    // A family's help stands before its type, and its name depends on its type.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                out.extend(["# HELP ", name, suffix, " ", help, "\n"]);
            }
            out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_ask_for_openmetrics_gets_the_classic_text() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            ("text/plain; version=0.0.4", Format::Text),
            ("text/html, text/plain;q=0.5", Format::Text),
            ("application/json", Format::Text),
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0, */*;q=0.1", Format::OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain", Format::Text),
            ("application/openmetrics-text;q=0.5, text/plain;q=0.9", Format::Text),
            ("application/openmetrics-text;q=x", Format::Text),
            (";;;,,q=1", Format::Text),
        ] {
            assert_eq!(Format::for_accept(accept), format, "{accept}");
        }
    }

    #[test]
    fn a_family_of_the_classic_text_has_the_name_of_its_samples() {
        let open_metrics = "# HELP a Help with \"quotes\".\n# TYPE a counter\n# UNIT a seconds\na_total{b=\"#\"} 1\n\
             # HELP c C.\n# TYPE c info\nc_info{d=\"e\"} 1\n# HELP f F.\n# TYPE f gauge\nf 2\n# EOF\n";
        let classic = "# HELP a_total Help with \"quotes\".\n# TYPE a_total counter\na_total{b=\"#\"} 1\n\
             # HELP c_info C.\n# TYPE c_info gauge\nc_info{d=\"e\"} 1\n# HELP f F.\n# TYPE f gauge\nf 2\n";
        assert_eq!(to_classic(open_metrics), classic);
    }
}
