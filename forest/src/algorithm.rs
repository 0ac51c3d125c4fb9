//! The fit: each tree gets its own seed first, so that threads may grow trees in any order.

use linfa::traits::Fit;
use linfa::{DatasetBase, Float};
use ndarray::{ArrayBase, ArrayView2, Data, Ix2};
use rand::seq::index;
use rand::{Rng, RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
#[cfg(feature = "rayon")]
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::forest::{IsolationForest, Trees, check_finite, to_f32};
use crate::hyperparams::{Contamination, IsolationForestValidParams, MaxFeatures, MaxSamples};
use crate::tree::{Sample, Split, Tree};

/// Offset with contamination `auto`.
const OFFSET_AUTO: f64 = -0.5;

/// Targets are not looked at.
///
/// # Errors
/// [`Error::EmptyData`], [`Error::NoFeatures`], [`Error::NotFinite`], [`Error::TooFewSamples`],
/// [`Error::MaxFeaturesExceedsData`], [`Error::ExtensionLevel`].
impl<F: Float, D: Data<Elem = F>, T> Fit<ArrayBase<D, Ix2>, T, Error> for IsolationForestValidParams {
    type Object = IsolationForest;

    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<IsolationForest> {
        let x = dataset.records.view();
        let plan = Plan::new(self, x)?;
        check_finite(x)?;
        let trees = if self.extension_level == 0 {
            Trees::Axis(plan.grow_all())
        } else {
            Trees::Extended(plan.grow_all())
        };
        let mut forest = IsolationForest::from_trees(x.ncols(), plan.samples, OFFSET_AUTO, trees)?;
        if let Contamination::Fraction(fraction) = self.contamination {
            forest.set_offset(quantile(forest.score_samples(&x)?.to_vec(), fraction));
        }
        Ok(forest)
    }
}

/// Parameters, resolved against the data.
struct Plan<'a, F> {
    params: &'a IsolationForestValidParams,
    x: ArrayView2<'a, F>,
    /// Rows of each tree.
    samples: usize,
    /// Features of each tree.
    features: usize,
}

impl<'a, F: Float> Plan<'a, F> {
    fn new(params: &'a IsolationForestValidParams, x: ArrayView2<'a, F>) -> Result<Self> {
        let (rows, n_features) = x.dim();
        if rows == 0 {
            return Err(Error::EmptyData);
        }
        if n_features == 0 {
            return Err(Error::NoFeatures);
        }
        let features = resolve_features(params.max_features, n_features)?;
        if params.extension_level >= features {
            return Err(Error::ExtensionLevel { max: features - 1, found: params.extension_level });
        }
        let samples = resolve_samples(params.max_samples, rows)?;
        Ok(Self { params, x, samples, features })
    }

    fn grow_all<S: Split + Send>(&self) -> Vec<Tree<S>> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.params.seed);
        let seeds: Vec<u64> = (0..self.params.n_estimators).map(|_| rng.next_u64()).collect();
        #[cfg(feature = "rayon")]
        let seeds = seeds.into_par_iter();
        #[cfg(not(feature = "rayon"))]
        let seeds = seeds.into_iter();
        seeds.map(|seed| self.grow(seed)).collect()
    }

    fn grow<S: Split>(&self, seed: u64) -> Tree<S> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (rows, n_features) = self.x.dim();
        let features: Vec<u32> = if self.features == n_features {
            (0..n_features as u32).collect()
        } else {
            index::sample(&mut rng, n_features, self.features).iter().map(|feature| feature as u32).collect()
        };
        let rows: Vec<usize> = if self.params.bootstrap {
            (0..self.samples).map(|_| rng.gen_range(0..rows)).collect()
        } else {
            index::sample(&mut rng, rows, self.samples).into_vec()
        };
        let columns = features
            .iter()
            .map(|&feature| rows.iter().map(|&row| to_f32(self.x[(row, feature as usize)])).collect())
            .collect();
        Tree::grow(&Sample::new(columns, features, n_features, self.params.extension_level), &mut rng)
    }
}

fn resolve_samples(max_samples: MaxSamples, rows: usize) -> Result<usize> {
    let found = match max_samples {
        MaxSamples::Auto => rows.min(256),
        MaxSamples::Count(count) => rows.min(count),
        MaxSamples::Fraction(fraction) => (fraction * rows as f64) as usize,
    };
    match found {
        0 | 1 => Err(Error::TooFewSamples { rows, found }),
        _ if found > u32::MAX as usize / 2 => Err(Error::TooManySamples(found)),
        _ => Ok(found),
    }
}

fn resolve_features(max_features: MaxFeatures, n_features: usize) -> Result<usize> {
    let found = match max_features {
        MaxFeatures::Count(count) => count,
        MaxFeatures::Fraction(fraction) => ((fraction * n_features as f64) as usize).max(1),
    };
    if found > n_features {
        return Err(Error::MaxFeaturesExceedsData { n_features, found });
    }
    Ok(found)
}

/// The quantile of numpy's default method: linear between the two nearest order statistics.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let position = share * (values.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(values.len() - 1);
    values[below] + (values[above] - values[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.percentile([3, 1, 4, 1.5, 9], [5, 25, 30, 50])
        for (share, expected) in [(0.05, 1.1), (0.25, 1.5), (0.3, 1.8), (0.5, 3.0)] {
            assert!((quantile(vec![3.0, 1.0, 4.0, 1.5, 9.0], share) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn samples_are_resolved_against_the_rows() {
        let resolve = |max_samples, rows| resolve_samples(max_samples, rows).ok();
        assert_eq!(resolve(MaxSamples::Auto, 100), Some(100));
        assert_eq!(resolve(MaxSamples::Auto, 1000), Some(256));
        assert_eq!(resolve(MaxSamples::Count(5000), 1000), Some(1000));
        assert_eq!(resolve(MaxSamples::Fraction(0.25), 1001), Some(250));
        assert_eq!(resolve(MaxSamples::Fraction(0.001), 1001), None);
        assert_eq!(resolve(MaxSamples::Auto, 1), None);
    }
}
