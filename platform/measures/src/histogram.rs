//! Quantiles of what was counted in buckets.

/// The value below which the part `q` of all lies (0.95 of them, say), as far as the buckets tell:
/// within one, values are taken to be spread evenly on a logarithmic scale. `bounds` are the upper
/// bounds of all buckets but the last, and grow; the last bucket has no bound, and what lies there
/// is told as its lower one. Nothing when nothing was counted.
pub fn quantile(bounds: &[u64], counts: &[f64], q: f64) -> Option<f64> {
    let total: f64 = counts.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let wanted = q.clamp(0.0, 1.0) * total;
    let mut below = 0.0;
    for (index, count) in counts.iter().enumerate() {
        if *count > 0.0 && below + count >= wanted {
            let Some(upper) = bounds.get(index).map(|bound| *bound as f64) else { break };
            let part = (wanted - below) / count;
            // The first bucket begins at nothing, where there is no logarithm.
            return Some(match index.checked_sub(1).map(|before| bounds[before] as f64) {
                Some(lower) => lower * (upper / lower).powf(part),
                None => upper * part,
            });
        }
        below += count;
    }
    bounds.last().map(|bound| *bound as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 4] = [100, 160, 250, 400];

    #[test]
    fn a_quantile_lies_in_the_bucket_that_it_falls_into() {
        let counts = [10.0, 0.0, 80.0, 10.0, 0.0];
        assert!((quantile(&BOUNDS, &counts, 0.05).unwrap() - 50.0).abs() < 1e-9);
        let median = quantile(&BOUNDS, &counts, 0.5).unwrap();
        assert!((median - 200.0).abs() < 1.0, "the geometric middle: {median}");
        assert!((quantile(&BOUNDS, &counts, 0.9).unwrap() - 250.0).abs() < 1e-9);
        assert!((quantile(&BOUNDS, &counts, 1.0).unwrap() - 400.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_counted_has_no_quantile_and_the_last_bucket_tells_its_lower_bound() {
        assert_eq!(quantile(&BOUNDS, &[0.0; 5], 0.5), None);
        assert_eq!(quantile(&BOUNDS, &[], 0.5), None);
        assert_eq!(quantile(&BOUNDS, &[0.0, 0.0, 0.0, 0.0, 3.0], 0.5), Some(400.0));
    }
}
