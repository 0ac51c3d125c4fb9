//! How surprising a count is: large-deviation rates for counts whose own level varies.
//!
//! Log traffic comes in bursts, so neither a Poisson nor a binomial count describes it: the level itself is random. Both
//! functions return `I ≥ 0` such that chance alone gives a count at least as far out with probability of about `exp(−I)`
//! (and never much more): a count is significant at `p` when `I ≥ −ln p`.
//!
//! - [`volume_rate`]: Poisson counts around a log-normal level, `n ~ Poisson(m·e^{σa})`, `a ~ N(0, 1)`. The exponent of
//!   its probability at the likeliest `a` (Laplace's approximation; Breslow & Clayton 1993, "Approximate Inference in
//!   Generalized Linear Mixed Models"): `min_a a²/2 + λ − n + n·ln(n/λ)`, `λ = m·e^{σa}`. Without bursts (`σ = 0`) it is
//!   the Chernoff bound of a Poisson count; for many logs it is `(ln(n/m)/σ)²/2`.
//! - [`error_rate`]: negative binomial counts, which is what Poisson counts around a gamma level are, and the rare-event
//!   limit of the beta-binomial. The exact Cramér rate (Chernoff's bound holds for every n):
//!   `e·ln(e/μ) − (e + k)·ln((e + k)/(μ + k))`. Its level's tail is exact where little is known (`k` small).

/// Steps of the searches; each converges long before.
const STEPS: usize = 60;

/// How surprising `n` logs are where `m` are expected and the level's squared relative spread is `spread`.
pub fn volume_rate(n: f64, m: f64, spread: f64) -> f64 {
    let sigma = spread.ln_1p().sqrt();
    // Stationary: a = σ(n − m·e^{σa}). The right side falls in a, so Newton's method from the side of n is safe.
    let (mut low, mut high) = if n >= m { (0.0, sigma * (n - m)) } else { (sigma * (n - m), 0.0) };
    if sigma > 0.0 && n > 0.0 {
        // The level never passes the count itself.
        let own = (n / m).ln() / sigma;
        (low, high) = (low.max(own.min(0.0)), high.min(own.max(0.0)));
    }
    let mut a = if n >= m { high } else { low };
    for _ in 0..STEPS {
        let level = m * (sigma * a).exp();
        let gap = a - sigma * (n - level);
        if gap > 0.0 {
            high = a
        } else {
            low = a
        }
        let newton = a - gap / (1.0 + sigma * sigma * level);
        let next = if (low..=high).contains(&newton) { newton } else { f64::midpoint(low, high) };
        if (next - a).abs() <= 1e-12 * (1.0 + a.abs()) {
            break;
        }
        a = next;
    }
    let level = m * (sigma * a).exp();
    let poisson = if n > 0.0 { n * (n / level).ln() + level - n } else { level };
    a * a / 2.0 + poisson
}

/// How surprising `errors` are where `expected` are, and the level's squared relative spread is `spread`.
pub fn error_rate(errors: f64, expected: f64, spread: f64) -> f64 {
    let k = 1.0 / spread.max(1e-9);
    let of_errors = if errors > 0.0 { errors * (errors / expected).ln() } else { 0.0 };
    of_errors - (errors + k) * ((errors + k) / (expected + k)).ln()
}

/// The count above `expected` from which `rate` says that it is significant: `rate(count) = needed`.
pub fn least_above(expected: f64, needed: f64, rate: impl Fn(f64) -> f64) -> f64 {
    let mut high = expected.max(1.0) * 2.0;
    while rate(high) < needed && high < 1e15 {
        high *= 2.0;
    }
    bisect(expected, high, |count| rate(count) < needed)
}

/// The count below `expected` up to which it is significant; negative where not even none at all is.
pub fn greatest_below(expected: f64, needed: f64, rate: impl Fn(f64) -> f64) -> f64 {
    if rate(0.0) < needed {
        return -1.0;
    }
    bisect(0.0, expected, |count| rate(count) >= needed)
}

/// Where `is_low` turns from true to false.
fn bisect(mut low: f64, mut high: f64, is_low: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if is_low(middle) { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}
