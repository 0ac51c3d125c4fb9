//! Numbers as trees compare them: rows are cast to `f32`, as scikit-learn and ONNX do, and `f32` are compared
//! as unsigned integers of the same order, which the processor does in half the instructions.

/// The unsigned integer that orders as `value` does: `a <= b` exactly when `order_key(a) <= order_key(b)`,
/// for all but NaN. Negative zero equals zero.
#[inline]
pub(crate) fn order_key(value: f32) -> u32 {
    const SIGN: u32 = 1 << 31;
    let bits = (value + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The largest `f32` that is not above `threshold`. For an `f32` row, `x <= threshold` and
/// `x <= floor_f32(threshold)` are the same.
pub(crate) fn floor_f32(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    if f64::from(nearest) > threshold { nearest.next_down() } else { nearest }
}

/// Average path length of an unsuccessful search in a binary search tree of `n` rows, c(n): what a leaf that
/// still holds `n` rows adds to its depth (2008 paper, equation 1; 2012 paper for c(2) = 1).
///
/// ```
/// use linfa_isolation_forest::average_path_length;
///
/// assert_eq!(average_path_length(1), 0.0);
/// assert_eq!(average_path_length(2), 1.0);
/// assert!((average_path_length(256) - 10.244770920119917).abs() < 1e-12);
/// ```
pub fn average_path_length(n: usize) -> f64 {
    /// Euler's constant, to the digits that scikit-learn has.
    const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + EULER_GAMMA) - 2.0 * (n - 1.0) / n
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [f32; 11] = [
        f32::NEG_INFINITY,
        f32::MIN,
        -1.5,
        -f32::MIN_POSITIVE,
        -0.0,
        0.0,
        1e-45,
        f32::MIN_POSITIVE,
        1.0,
        f32::MAX,
        f32::INFINITY,
    ];

    #[test]
    fn keys_order_as_their_numbers() {
        for a in EDGES {
            for b in EDGES {
                assert_eq!(a <= b, order_key(a) <= order_key(b), "{a} <= {b}");
            }
        }
    }

    #[test]
    fn a_rounded_threshold_splits_f32_rows_as_the_exact_one() {
        for threshold in [0.1_f64, -0.1, 1.0, 1e300, -1e300, 1e-60, -1e-60, 16_777_217.0] {
            let nearest = threshold as f32;
            for row in [nearest.next_down(), nearest, nearest.next_up()].into_iter().chain(EDGES) {
                assert_eq!(f64::from(row) <= threshold, row <= floor_f32(threshold), "{row} <= {threshold}");
            }
        }
    }
}
