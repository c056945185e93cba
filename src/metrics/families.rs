//! Families of metrics, written in the form of the format.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::counters::Histogram;

/// The labels of one series.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes families, each with all its series in one go as the format demands.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    pub(super) fn counter<'l, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        series.into_iter().try_for_each(|(labels, value)| {
            labeled(&mut family, &labels, |metric| metric.encode_counter::<NoLabelSet, _, f64>(&value, None))
        })
    }

    pub(super) fn gauge<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        series
            .into_iter()
            .try_for_each(|(labels, value)| labeled(&mut family, &labels, |metric| metric.encode_gauge(&value)))
    }

    pub(super) fn histogram<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Labels<'l>, &'l Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in series {
            let unit = histogram.unit();
            let upper = |upper: Option<u64>| upper.map_or(f64::INFINITY, |upper| unit.as_seconds(upper));
            let buckets: Vec<_> = histogram.buckets().map(|(bound, count)| (upper(bound), count)).collect();
            // From the same reading as the buckets, so that the two always agree.
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = unit.as_seconds(histogram.sum());
            labeled(&mut family, &labels, |metric| metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None))?;
        }
        Ok(())
    }

    pub(super) fn info<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = Labels<'l>>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        series.into_iter().try_for_each(|labels| family.encode_info(&labels))
    }
}

fn labeled(
    family: &mut MetricEncoder<'_>,
    labels: &Labels<'_>,
    encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if labels.is_empty() {
        return encode(family);
    }
    encode(&mut family.encode_family(labels)?)
}

/// The one series of a family without labels.
pub(super) fn single<V>(value: V) -> [(Labels<'static>, V); 1] {
    [(Vec::new(), value)]
}
