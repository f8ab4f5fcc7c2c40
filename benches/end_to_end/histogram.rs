//! Latencies, counted in buckets of at most 1.6 % width.

use std::time::Duration;

/// Buckets per power of two, as a power of two.
const FINE_BITS: u32 = 6;
const FINE: usize = 1 << FINE_BITS;
const BUCKETS: usize = FINE * (64 - FINE_BITS as usize + 1);

#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Box<[u32]>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        self.counts[bucket(latency.as_nanos() as u64)] += 1;
        self.total += 1;
    }

    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The latency that this part of all, from 0 to 1, does not exceed.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let rank = (self.total as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return Duration::from_nanos(middle(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket(value: u64) -> usize {
    let exponent = value.max(1).ilog2().saturating_sub(FINE_BITS);
    exponent as usize * FINE + (value >> exponent) as usize
}

/// The value in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    if bucket < 2 * FINE {
        return bucket as u64;
    }
    let exponent = bucket / FINE - 1;
    let start = ((bucket - exponent * FINE) as u64) << exponent;
    start + (1 << exponent) / 2
}
