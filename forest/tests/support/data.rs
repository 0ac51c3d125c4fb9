//! Data for tests.

use std::path::PathBuf;

use ndarray::{Array1, Array2};

/// A generator of its own, so that tests do not depend on how the crate draws.
pub struct Lcg(u64);

impl Lcg {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// Nearly normal: Irwin and Hall.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// Features as a log stream has them: rate, error share, length, services (whole), hour (whole).
pub fn stream_like(rows: usize, seed: u64) -> Array2<f64> {
    let mut random = Lcg::new(seed);
    Array2::from_shape_fn((rows, 5), |(_, feature)| match feature {
        0 => 900.0 + 300.0 * random.normal(),
        1 => (0.03 + 0.02 * random.normal()).abs(),
        2 => 60.0 + 8.0 * random.normal(),
        3 => 1.0 + random.below(20) as f64,
        _ => random.below(24) as f64,
    })
}

/// A normal cloud of `inliers` with `outliers` far from it, and which is which.
pub fn cloud(inliers: usize, outliers: usize, features: usize, seed: u64) -> (Array2<f64>, Array1<bool>) {
    let mut random = Lcg::new(seed);
    let rows = Array2::from_shape_fn((inliers + outliers, features), |(row, _)| {
        let spread = if row < inliers { 1.0 } else { 6.0 };
        spread * random.normal()
    });
    (rows, Array1::from_shape_fn(inliers + outliers, |row| row >= inliers))
}

/// The shared reference data for forests, or `None`, said loudly.
pub fn shared_forest_data(for_what: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("SMARTLOG_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let folder = shared.join("data/forest");
    if folder.is_dir() {
        return Some(folder);
    }
    super::say_skipped(for_what, &format!("expected reference data in {}, found none", folder.display()));
    None
}
